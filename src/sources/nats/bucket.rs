//! The state of a bucket, as JetStream describes it.

use std::time::Duration;

use serde_json::Value as Json;

use crate::error::{Error, ErrorKind};
use crate::sources::nats::jetstream::{nanos, number};

/// How long a leader may go without a message of a replica, which sends one each second.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(3);

/// The state of a bucket at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Bucket {
    pub(super) created: String,
    /// The leader of the cluster, the only member that is known to have everything.
    leader: Option<String>,
    messages: u64,
    first: u64,
    /// The newest revision.
    pub(super) last: u64,
    deleted: u64,
    subjects: u64,
    /// The age at which values expire, in nanoseconds; 0 for never.
    max_age: u64,
    /// Whether a value may have an expiry of its own.
    has_value_expiry: bool,
    /// Whether the server adds a marker for each expired value.
    has_expiry_markers: bool,
    /// The bucket that this one mirrors; its name is in the subjects.
    pub(super) mirrored: Option<String>,
}

impl Bucket {
    pub(super) fn of(answer: &Json) -> Self {
        let state = |name| number(answer, &["state", name]);
        let config = &answer["config"];
        Self {
            created: answer["created"].as_str().unwrap_or_default().to_owned(),
            leader: leader(&answer["cluster"]),
            messages: state("messages"),
            first: state("first_seq"),
            last: state("last_seq"),
            deleted: state("num_deleted"),
            subjects: state("num_subjects"),
            max_age: number(answer, &["config", "max_age"]),
            has_value_expiry: config["allow_msg_ttl"].as_bool().unwrap_or_default(),
            has_expiry_markers: number(answer, &["config", "subject_delete_marker_ttl"]) > 0,
            mirrored: config["mirror"]["name"]
                .as_str()
                .and_then(|name| name.strip_prefix("KV_"))
                .map(str::to_owned),
        }
    }

    /// Whether values expire without a message.
    fn expires_silently(&self) -> bool {
        (self.max_age > 0 || self.has_value_expiry) && !self.has_expiry_markers
    }

    /// The warning about a bucket whose values expire without a message.
    pub(super) fn expiry_warning(&self, every: Duration) -> Option<Error> {
        if !self.expires_silently() {
            return None;
        }
        let age = match self.max_age {
            0 => "an age of their own".to_owned(),
            age => format!("{:?}", Duration::from_nanos(age)),
        };
        let detail = format!(
            "values expire in this bucket, after {age}, and the server sends no message about that: the \
             source checks every {every:?}"
        );
        Some(Error::new(ErrorKind::InvalidConfig, detail))
    }

    /// The member that a consumer is on, unless that is the leader. The server places a consumer on any
    /// member, even one that has just come back and lacks messages.
    pub(super) fn follower_of_consumer(&self, cluster: &Json) -> Option<String> {
        leader(cluster).filter(|member| self.leader.as_ref().is_some_and(|it| it != member))
    }

    /// Whether a value may have been removed since `before` without a message: it expired, was purged
    /// without a marker, or exceeded a limit. A new bucket and a new leader count as well.
    pub(super) fn may_have_lost_values(&self, before: &Self) -> bool {
        if self == before {
            return false;
        }
        self.created != before.created
            || self.leader != before.leader
            || self.last <= before.last
            || self.subjects < before.subjects
            || self.expires_silently()
    }
}

/// Whether a leader lacks most of the replicas. Such a leader continues for up to 20 seconds, while the
/// others may elect another one.
pub(super) fn lacks_quorum(cluster: &Json) -> bool {
    let Some(replicas) = cluster["replicas"].as_array() else {
        return false;
    };
    let is_active = |replica: &&Json| {
        let silent = number(replica, &["active"]);
        silent < nanos(REPLICA_TIMEOUT) && (silent > 0 || replica["current"] == true)
    };
    let active = replicas.iter().filter(is_active).count();
    !cluster["leader"].is_string() || (active + 1) * 2 <= replicas.len() + 1
}

/// The leader of a cluster.
fn leader(cluster: &Json) -> Option<String> {
    cluster["leader"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_leader_without_most_replicas_lacks_quorum() {
        let cluster = |leader: Json, others: &[(u64, bool)]| {
            let replica = |(active, current): &(u64, bool)| {
                let nanos = active * 1_000_000_000;
                json!({"active": nanos, "current": current})
            };
            let replicas: Vec<Json> = others.iter().map(replica).collect();
            json!({"leader": leader, "replicas": replicas})
        };
        let led = |others: &[(u64, bool)]| !lacks_quorum(&cluster(json!("a"), others));
        assert!(led(&[(1, true), (2, true)]));
        assert!(led(&[(1, true), (50, false)]), "most are there");
        assert!(led(&[(0, true), (0, false)]));
        assert!(!led(&[(4, true), (4, true)]));
        assert!(!led(&[(0, false), (0, false)]), "of none it ever heard");
        assert!(led(&[(1, true), (1, true), (9, false), (9, false)]));
        assert!(
            !led(&[(1, true), (9, true), (9, false)]),
            "half are not most"
        );
        assert!(lacks_quorum(&cluster(Json::Null, &[(1, true), (1, true)])));
        // One server, or one that keeps it in a cluster.
        assert!(!lacks_quorum(&Json::Null));
        assert!(!lacks_quorum(&json!({"leader": "a"})));
        assert!(led(&[]));
    }

    #[test]
    fn a_bucket_that_may_have_lost_values_is_detected() {
        let answer = json!({
            "created": "then",
            "config": {},
            "state": {"messages": 9, "first_seq": 1, "last_seq": 20, "num_subjects": 9},
        });
        let before = Bucket::of(&answer);
        let after = |edit: &dyn Fn(&mut Json)| {
            let mut answer = answer.clone();
            edit(&mut answer);
            Bucket::of(&answer).may_have_lost_values(&before)
        };
        assert!(!after(&|_| {}));
        assert!(!after(&|it| it["state"]["last_seq"] = json!(21)), "a put");
        assert!(after(&|it| it["state"]["messages"] = json!(8)), "a purge");
        assert!(
            after(&|it| it["state"]["last_seq"] = json!(19)),
            "a restore"
        );
        assert!(after(&|it| it["created"] = json!("now")), "another bucket");
        assert!(after(&|it| {
            it["state"]["last_seq"] = json!(21);
            it["cluster"] = json!({"leader": "another"});
        }));
        assert!(after(&|it| {
            it["state"]["last_seq"] = json!(30);
            it["state"]["num_subjects"] = json!(8);
        }));
        assert!(after(&|it| {
            it["config"]["max_age"] = json!(1);
            it["state"]["last_seq"] = json!(21);
        }));
        let mut marked = answer.clone();
        marked["config"] = json!({"max_age": 5_000_000_000u64});
        assert!(
            Bucket::of(&marked)
                .expiry_warning(REPLICA_TIMEOUT)
                .unwrap()
                .to_string()
                .contains("5s")
        );
        marked["config"]["subject_delete_marker_ttl"] = json!(1);
        assert!(
            Bucket::of(&marked)
                .expiry_warning(REPLICA_TIMEOUT)
                .is_none()
        );
    }
}
