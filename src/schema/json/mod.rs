//! A schema as JSON Schema, draft 2020-12.
//!
//! The writer does not use serde_json, which only a feature brings: so every program can write its schema,
//! which is a tree of objects.

mod defs;
mod field;
mod write;

use crate::schema::field::Field;
use crate::schema::json::write::{Json, string, text};
use crate::schema::{Masking, Schema};
use crate::sorted::SortedMap;
use crate::value::key::Key;

/// The declarations at a key and below it.
struct Branch<'a> {
    at: Key,
    field: Option<(&'a Field, Masking)>,
    below: SortedMap<String, Branch<'a>>,
}

/// The last index for which an export describes items of a list.
const LAST_ITEM: usize = 100;

impl Schema {
    /// The declared keys as JSON Schema, draft 2020-12, for editors and for checks in CI: dotted
    /// keys are nested objects, and under a strict prefix other names are not allowed.
    ///
    /// It describes documents whose values have the JSON type of their key. A validator and
    /// [`build`](crate::Builder::build) give the same verdict on such a document. `build` reads more
    /// than that: text as any type, because the environment and stores of bytes have nothing else,
    /// numbers as text, tables as lists, references, and a null, which hides the value of a weaker layer.
    /// A validator rejects those.
    ///
    /// JSON Schema cannot express everything, so a validator accepts and `build` rejects:
    ///
    /// - what a comment states: a [`validate`](crate::schema::Declaration::validate), a range of durations,
    ///   of sizes as text, of characters or of lists, allowed durations, sizes and `f32`;
    /// - what only the type knows: a struct, an enum, a map;
    /// - an integer that a float cannot hold exactly, and a number other than zero that a float
    ///   would round to zero;
    /// - a duration or a size as text that is too large, and a fraction of a byte;
    /// - text with a NUL character;
    /// - the ranges and allowed values of a secret, which are left out as its default is;
    /// - an item of a list behind the hundredth.
    ///
    /// Defaults and allowed values are written as their type has them.
    ///
    /// A value that is required is so in the layers together; hold a single document of several
    /// against it without `required`.
    pub fn to_json_schema(&self) -> String {
        let secret_keys = self.secret_keys();
        let mut root = Branch::new(Key::root());
        for (key, field) in &self.fields {
            if let Some(branch) = root.grow(key) {
                branch.field = Some((field, self.masking(&secret_keys, key, field)));
            }
        }
        // Every key below a declared key is declared.
        let is_declared = |key: &Key| key.lineage().any(|above| self.has(above));
        for prefix in self.strict.iter().filter(|prefix| !is_declared(prefix)) {
            root.grow(prefix);
        }
        let dialect = "https://json-schema.org/draft/2020-12/schema";
        let mut whole = vec![("$schema".to_owned(), string(dialect))];
        whole.extend(self.branch(&root, false));
        let definitions = defs::definitions(self);
        if !definitions.is_empty() {
            whole.push(("$defs".to_owned(), Json::Object(definitions)));
        }
        let mut text = String::new();
        Json::Object(whole).write(&mut text, 0);
        text.push('\n');
        text
    }

    /// Undeclared names are allowed in a `free` branch: below a declared key and in a list.
    fn branch(&self, branch: &Branch<'_>, free: bool) -> Vec<(String, Json)> {
        let mut all = Vec::new();
        let mut object = match branch.field {
            Some((field, masking)) => field::object(field, masking, &mut all),
            None => Vec::new(),
        };
        if !(branch.below.is_empty() && branch.field.is_some()) {
            self.below_branch(branch, free, &mut all, &mut object);
        }
        if !all.is_empty() {
            object.push(("allOf".to_owned(), Json::List(all)));
        }
        object
    }

    /// The keywords for the keys below a key.
    fn below_branch(
        &self,
        branch: &Branch<'_>,
        free: bool,
        all: &mut Vec<Json>,
        object: &mut Vec<(String, Json)>,
    ) {
        let mut put = |name: &str, json: Json| object.push((name.to_owned(), json));
        let items = branch.items();
        let strict = branch.field.is_none() && self.is_strict(&branch.at) && !free;
        // A value in place of declared keys is an error only if they are required or the prefix is strict.
        if strict || branch.below.values().any(Branch::is_required) {
            let object = string("object");
            let types = if items.is_empty() || branch.needs_a_table() {
                object
            } else {
                Json::List(vec![object, string("array")])
            };
            match branch.field {
                None => put("type", types),
                // The field has a type of its own.
                Some(_) => all.push(Json::Object(vec![("type".to_owned(), types)])),
            }
        }
        let properties = branch.below.iter().map(|(name, below)| {
            let free = free || branch.field.is_some();
            (name.clone(), Json::Object(self.branch(below, free)))
        });
        put("properties", Json::Object(properties.collect()));
        let required = branch.below.iter().filter(|(_, below)| below.is_required());
        let required: Vec<Json> = required.map(|(name, _)| string(name)).collect();
        if !required.is_empty() {
            put("required", Json::List(required));
        }
        if strict {
            put("additionalProperties", text("false"));
        }
        if let Some((last, _)) = items.last() {
            let each = (0..=*last).map(|at| match items.get(&at).map(Vec::as_slice) {
                None => Json::Object(Vec::new()),
                Some([one]) => Json::Object(self.branch(one, true)),
                Some(several) => {
                    let several = several.iter();
                    let each = several.map(|one| Json::Object(self.branch(one, true)));
                    Json::Object(vec![("allOf".to_owned(), Json::List(each.collect()))])
                }
            });
            let mut list = vec![("prefixItems".to_owned(), Json::List(each.collect()))];
            let needed = items
                .iter()
                .rev()
                .find(|(_, all)| all.iter().any(|item| item.is_required()));
            if let Some((at, _)) = needed {
                list.push(("minItems".to_owned(), text((at + 1).to_string())));
            }
            // A schema of its own, since beside `prefixItems` the keyword `items` means the rest only.
            all.push(Json::Object(list));
        }
    }
}

/// The item of a list that a name means, if an export describes that item.
fn item_of(name: &str) -> Option<usize> {
    let name = Some(name).filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let at: usize = name?.parse().ok()?;
    (at <= LAST_ITEM).then_some(at)
}

impl<'a> Branch<'a> {
    fn new(at: Key) -> Self {
        Self {
            at,
            field: None,
            below: SortedMap::new(),
        }
    }

    /// Adds the branch at a key, and those above it.
    fn grow(&mut self, key: &Key) -> Option<&mut Branch<'a>> {
        let mut branch = self;
        for name in key.segments() {
            // A prefix of a key is a valid key.
            let at = branch.at.child(&name).ok()?;
            let below = &mut branch.below;
            branch = below.get_or_insert_with(name.into_owned(), || Branch::new(at));
        }
        Some(branch)
    }

    /// The declared items of a list. Several names may mean the same item, as `1` and `01` do.
    fn items(&self) -> SortedMap<usize, Vec<&Branch<'a>>> {
        // The root is never a list.
        let below = self.below.iter().filter(|_| !self.at.is_root());
        let declared = below.filter(|(_, item)| item.is_declared());
        let items = declared.filter_map(|(name, item)| Some((item_of(name)?, item)));
        SortedMap::group(items.collect())
    }

    /// Whether a key that no list can have is required below.
    fn needs_a_table(&self) -> bool {
        let mut below = self.below.iter();
        below.any(|(name, below)| item_of(name).is_none() && below.is_required())
    }

    /// Whether there is a declared key here or below.
    fn is_declared(&self) -> bool {
        self.field.is_some() || self.below.values().any(Branch::is_declared)
    }

    /// Whether a key here or below is required and has no default.
    fn is_required(&self) -> bool {
        self.field
            .is_some_and(|(f, _)| f.required && f.default.is_none())
            || self.below.values().any(Branch::is_required)
    }
}
