//! How a client logs in: what the program configured, and the `CONNECT` that it becomes.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::json;

use crate::error::{Error, ErrorKind};
use crate::source::Credentials;
use crate::sources::shared::tls::Credential;
use crate::value::percent;

/// The login of the program's configuration, whose files are read for each connection.
#[derive(Clone)]
pub(super) enum LoginConfig {
    Token(Credential),
    User(String, Credential),
    NKey(Credential),
    CredentialsFile(Credential),
}

impl LoginConfig {
    /// The name of its kind, for `Debug`.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::User(..) => "user",
            Self::NKey(_) => "nkey",
            Self::CredentialsFile(_) => "file",
        }
    }

    /// Reads the files, and adds the secrets to `credentials`, which mask them in errors.
    pub(super) fn read(&self, credentials: &Credentials) -> Result<Login, Error> {
        match self {
            Self::Token(token) => {
                let token = token.read("the token")?;
                credentials.add(&token);
                Ok(Login::of_token(token.trim().to_owned()))
            }
            Self::User(name, password) => {
                let password = password.read("the password")?;
                credentials.add_login(name, &password);
                Ok(Login::of_user(name.clone(), password))
            }
            Self::NKey(seed) => {
                let seed = seed.read("the seed")?;
                credentials.add(&seed);
                Login::of_seed(&seed)
            }
            Self::CredentialsFile(file) => {
                let what = "the file of credentials";
                let text = file.read(what)?;
                let secrets = text.lines().filter(|line| !line.starts_with('-'));
                secrets.for_each(|line| credentials.add(line));
                // A more specific error could quote the file.
                Login::of_credentials(&text).ok_or_else(|| {
                    Error::new(ErrorKind::InvalidConfig, format!("{what} holds none"))
                })
            }
        }
    }
}

/// The login of one connection.
#[derive(Default)]
pub(super) struct Login {
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    jwt: Option<String>,
    key: Option<KeyPair>,
}

impl Login {
    /// Parses `user:password`, or a token, of an address; `None` if that is not percent-encoded UTF-8.
    pub(super) fn of_user_info(user_info: &str) -> Option<Self> {
        let decode = |text: &str| String::from_utf8(percent::decode(text)?).ok();
        Some(match user_info.split_once(':') {
            Some((user, password)) => Self::of_user(decode(user)?, decode(password)?),
            None => Self::of_token(decode(user_info)?),
        })
    }

    fn of_token(token: String) -> Self {
        Self {
            token: Some(token),
            ..Self::default()
        }
    }

    fn of_user(user: String, password: String) -> Self {
        Self {
            user: Some(user),
            password: Some(password),
            ..Self::default()
        }
    }

    fn of_seed(seed: &str) -> Result<Self, Error> {
        let key = KeyPair::from_seed(seed.trim()).map_err(|_| invalid_key())?;
        Ok(Self {
            key: Some(key),
            ..Self::default()
        })
    }

    /// Reads the JWT and the seed of a file of credentials; `None` if one is missing.
    fn of_credentials(text: &str) -> Option<Self> {
        let mut blocks = blocks(text);
        let (jwt, seed) = (blocks.next()?, blocks.next()?);
        Some(Self {
            jwt: Some(jwt.to_owned()),
            ..Self::of_seed(seed).ok()?
        })
    }

    /// The `CONNECT` of this login, with a signature of the server's nonce, and a `PING`, whose answer
    /// confirms the login.
    pub(super) fn connect(&self, nonce: &str, tls: bool) -> Result<Vec<u8>, Error> {
        let mut options = json!({
            "verbose": false,
            "pedantic": false,
            "tls_required": tls,
            "name": "liveprops",
            "lang": "rust",
            "version": env!("CARGO_PKG_VERSION"),
            "protocol": 1,
            "headers": true,
            "no_responders": true,
        });
        let mut add = |name: &str, value: Option<&String>| {
            if let Some(value) = value {
                options[name] = json!(value);
            }
        };
        add("user", self.user.as_ref());
        add("pass", self.password.as_ref());
        add("auth_token", self.token.as_ref());
        add("jwt", self.jwt.as_ref());
        if let Some(key) = &self.key {
            let signature = key.sign(nonce.as_bytes()).map_err(|_| invalid_key())?;
            add("sig", Some(&URL_SAFE_NO_PAD.encode(signature)));
            if self.jwt.is_none() {
                add("nkey", Some(&key.public_key()));
            }
        }
        Ok(format!("CONNECT {options}\r\nPING\r\n").into_bytes())
    }
}

fn invalid_key() -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        "the key to sign with is not valid",
    )
}

/// The lines of a file of credentials that are between two dashed lines.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let is_dashed = |line: &str| line.starts_with("---") && line.ends_with("---");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    (1..lines.len().saturating_sub(1)).filter_map(move |at| {
        let inside = is_dashed(lines[at - 1]) && is_dashed(lines[at + 1]);
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.=".contains(c);
        let good = !lines[at].is_empty() && lines[at].chars().all(plain);
        (inside && good && !is_dashed(lines[at])).then_some(lines[at])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_hold_a_login() {
        let login = Login::of_user_info("me:p%40ss%3Aw%2Frd").unwrap();
        assert_eq!(login.user.as_deref(), Some("me"));
        assert_eq!(login.password.as_deref(), Some("p@ss:w/rd"));
        let login = Login::of_user_info("t0ken").unwrap();
        assert_eq!((login.token.as_deref(), login.user), (Some("t0ken"), None));
        for invalid in ["%ff", "me:%+1", "me:100%", "%zz"] {
            assert!(Login::of_user_info(invalid).is_none(), "{invalid}");
        }
    }

    #[test]
    fn a_file_of_credentials_is_read_however_it_is_decorated() {
        let seed = KeyPair::new_user().seed().unwrap();
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ.a_b.c-d=\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\n\
             -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------"
        );
        let login = Login::of_credentials(&text).unwrap();
        assert_eq!(login.jwt.as_deref(), Some("eyJ.a_b.c-d="));
        let connect = String::from_utf8(login.connect("n", false).unwrap()).unwrap();
        assert!(
            connect.contains("\"sig\":\"") && !connect.contains(&seed),
            "{connect}"
        );
        assert!(Login::of_credentials("").is_none());
        assert!(Login::of_credentials(&text[..60]).is_none());
    }
}
