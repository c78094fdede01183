//! The schema that a file was written with, as far as its rows need it.
//!
//! The library would follow names through any number of levels and copies, so that a few bytes could ask for more memory
//! than there is. What is wrong or too large is refused here; the library then sees a schema that is written anew
//! ([`Type::to_json`]), of the needed columns alone, with every name put in place.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Map, Value, json};

/// How deep types may be in each other.
const DEPTH_MAX: u32 = 32;
/// How many types there may be, each counted as often as it is used.
const TYPES_MAX: u64 = 10_000;
/// Beyond so many digits there is no decimal.
const DIGITS_MAX: u64 = 76;

/// A type, all names in it resolved.
#[derive(Debug)]
pub(super) struct Type {
    pub kind: Kind,
    /// What the value means, where it is more than what it is; always one that goes with `kind`.
    logical: Option<Logical>,
    /// What a null in its place takes in memory, in bytes.
    pub null_bytes: u64,
    /// Whether its values take no bytes at all.
    pub is_empty: bool,
    /// Types in it, itself included.
    types: u64,
    depth: u32,
}

#[derive(Debug)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(Arc<Type>),
    Map(Arc<Type>),
    Record(Vec<Field>),
    Union(Vec<Arc<Type>>),
}

/// A field of a record; at the top a column.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub name: String,
    pub of: Arc<Type>,
}

#[derive(Debug, Clone)]
enum Logical {
    /// One that needs no more than its name.
    Named(String),
    Decimal {
        precision: u64,
        scale: u64,
    },
}

/// The columns of a file, by the schema in its header.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn columns(json: &[u8]) -> Result<Vec<Field>, String> {
    let value: Value = serde_json::from_slice(json).map_err(|error| damaged(&format!("it is no JSON: {error}")))?;
    let of = Parser::default().parse(&value, "")?;
    match &of.kind {
        Kind::Record(fields) => Ok(fields.clone()),
        _ => Err("its schema is of no record, and has no columns".to_owned()),
    }
}

/// A schema of these columns for the library.
pub(super) fn of_columns<'t>(columns: impl Iterator<Item = &'t Type>) -> Value {
    let mut names = 0;
    let fields = columns.enumerate().map(|(at, of)| json!({"name": format!("c{at}"), "type": of.to_json(&mut names)}));
    json!({"type": "record", "name": "row", "fields": fields.collect::<Vec<_>>()})
}

fn damaged(why: &str) -> String {
    format!("its schema is damaged: {why}")
}

impl Type {
    fn new(kind: Kind, logical: Option<Logical>) -> Result<Type, String> {
        let children: &mut dyn Iterator<Item = &Arc<Type>> = match &kind {
            Kind::Array(of) | Kind::Map(of) => &mut std::iter::once(of),
            Kind::Record(fields) => &mut fields.iter().map(|field| &field.of),
            Kind::Union(branches) => &mut branches.iter(),
            _ => &mut std::iter::empty(),
        };
        let (mut types, mut depth, mut children_null_bytes) = (1_u64, 0, 0_u64);
        for child in children {
            types = types.saturating_add(child.types);
            depth = depth.max(child.depth);
            children_null_bytes = children_null_bytes.saturating_add(child.null_bytes);
        }
        if types > TYPES_MAX {
            return Err(format!("its schema has more than {TYPES_MAX} types"));
        }
        if depth == DEPTH_MAX {
            return Err(format!("the types of its schema are more than {DEPTH_MAX} deep"));
        }
        let null_bytes = match (&kind, &logical) {
            (Kind::Null | Kind::Boolean, _) => 1,
            (Kind::Int | Kind::Float | Kind::Enum(_), _) => 4,
            (Kind::Fixed(_) | Kind::Bytes, Some(Logical::Decimal { .. })) => 32,
            (Kind::Long | Kind::Double | Kind::Bytes | Kind::String | Kind::Array(_) | Kind::Map(_), _) => 8,
            (Kind::Fixed(size), _) => (*size as u64).max(16),
            (Kind::Record(_) | Kind::Union(_), _) => children_null_bytes.saturating_add(8),
        };
        let is_empty = match &kind {
            Kind::Null | Kind::Fixed(0) => true,
            Kind::Record(fields) => fields.iter().all(|field| field.of.is_empty),
            _ => false,
        };
        Ok(Type { kind, logical, null_bytes, is_empty, types, depth: depth + 1 })
    }

    /// As the library reads it; `names` counts the names that were given.
    fn to_json(&self, names: &mut usize) -> Value {
        let mut name = || {
            *names += 1;
            format!("t{names}")
        };
        let plain = |name: &str| json!({"type": name});
        let mut value = match &self.kind {
            // a null is all that the library can make of it
            _ if self.is_empty => plain("null"),
            Kind::Null => plain("null"),
            Kind::Boolean => plain("boolean"),
            Kind::Int => plain("int"),
            Kind::Long => plain("long"),
            Kind::Float => plain("float"),
            Kind::Double => plain("double"),
            Kind::Bytes => plain("bytes"),
            Kind::String => plain("string"),
            Kind::Fixed(size) => json!({"type": "fixed", "name": name(), "size": size}),
            Kind::Enum(symbols) => json!({"type": "enum", "name": name(), "symbols": symbols}),
            Kind::Array(of) => json!({"type": "array", "items": of.to_json(names)}),
            Kind::Map(of) => json!({"type": "map", "values": of.to_json(names)}),
            Kind::Record(fields) => {
                let name = name();
                let fields = fields.iter().map(|field| json!({"name": field.name, "type": field.of.to_json(names)}));
                json!({"type": "record", "name": name, "fields": fields.collect::<Vec<_>>()})
            }
            Kind::Union(branches) => Value::Array(branches.iter().map(|of| of.to_json(names)).collect()),
        };
        match (&self.logical, value.as_object_mut()) {
            (Some(Logical::Named(name)), Some(object)) => drop(object.insert("logicalType".to_owned(), json!(name))),
            (Some(Logical::Decimal { precision, scale }), Some(object)) => {
                let of = [("logicalType", json!("decimal")), ("precision", json!(precision)), ("scale", json!(scale))];
                object.extend(of.map(|(key, value)| (key.to_owned(), value)));
            }
            _ => {}
        }
        // a plain name is how the library knows the null of a union
        match value.as_object() {
            Some(object) if object.len() == 1 => value["type"].take(),
            _ => value,
        }
    }
}

/// Follows names while it reads.
#[derive(Default)]
struct Parser {
    /// By full name; `None`: it is being read, so that what names it is inside of it.
    named: HashMap<String, Option<Arc<Type>>>,
}

impl Parser {
    /// `space`: the namespace that it stands in.
    fn parse(&mut self, value: &Value, space: &str) -> Result<Arc<Type>, String> {
        match value {
            Value::String(name) => match primitive(name) {
                Some(kind) => Type::new(kind, None).map(Arc::new),
                None => self.resolve(name, space),
            },
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.parse(branch, space));
                Type::new(Kind::Union(branches.collect::<Result<_, _>>()?), None).map(Arc::new)
            }
            Value::Object(object) => self.object(object, space),
            other => Err(damaged(&format!("{other} is no type"))),
        }
    }

    fn resolve(&self, name: &str, space: &str) -> Result<Arc<Type>, String> {
        let full = full_name(name, space);
        match self.named.get(&full).or_else(|| self.named.get(name)) {
            Some(Some(of)) => Ok(Arc::clone(of)),
            Some(None) => Err(format!("its schema has a type that contains itself, '{name}', which is not read")),
            None => Err(damaged(&format!("no type is called '{name}'"))),
        }
    }

    fn object(&mut self, object: &Map<String, Value>, space: &str) -> Result<Arc<Type>, String> {
        let missing = |key: &str| damaged(&format!("a type has no '{key}'"));
        let of = object.get("type").ok_or_else(|| missing("type"))?;
        let kind = match of.as_str() {
            Some("array") => Kind::Array(self.parse(object.get("items").ok_or_else(|| missing("items"))?, space)?),
            Some("map") => Kind::Map(self.parse(object.get("values").ok_or_else(|| missing("values"))?, space)?),
            Some("record" | "enum" | "fixed" | "error") => return self.named(object, space),
            Some(name) => match primitive(name) {
                Some(kind) => kind,
                None => return self.resolve(name, space),
            },
            None => return self.parse(of, space),
        };
        let logical = logical(object, &kind);
        Type::new(kind, logical).map(Arc::new)
    }

    /// A type that later ones can name.
    fn named(&mut self, object: &Map<String, Value>, space: &str) -> Result<Arc<Type>, String> {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let list = |key: &str| object.get(key).and_then(Value::as_array);
        let missing = |key: &str| damaged(&format!("a type has no '{key}'"));
        let name = text("name").ok_or_else(|| missing("name"))?;
        let full = full_name(name, text("namespace").unwrap_or(space));
        self.named.insert(full.clone(), None);
        let space = full.rsplit_once('.').map_or("", |(space, _)| space);
        let kind = match text("type") {
            Some("fixed") => {
                let size = object.get("size").and_then(Value::as_u64).and_then(|size| i32::try_from(size).ok());
                Kind::Fixed(size.ok_or_else(|| missing("size"))?.unsigned_abs() as usize)
            }
            Some("enum") => {
                let symbols = list("symbols").ok_or_else(|| missing("symbols"))?.iter();
                let symbols = symbols.map(|symbol| symbol.as_str().map(str::to_owned));
                Kind::Enum(symbols.collect::<Option<_>>().ok_or_else(|| missing("symbols"))?)
            }
            _ => {
                let field = |field: &Value| {
                    let name = field.get("name").and_then(Value::as_str).ok_or_else(|| missing("name"))?;
                    let of = self.parse(field.get("type").ok_or_else(|| missing("type"))?, space)?;
                    Ok::<_, String>(Field { name: name.to_owned(), of })
                };
                let fields = list("fields").ok_or_else(|| missing("fields"))?;
                Kind::Record(fields.iter().map(field).collect::<Result<_, _>>()?)
            }
        };
        let logical = logical(object, &kind);
        let of = Arc::new(Type::new(kind, logical)?);
        self.named.insert(full, Some(Arc::clone(&of)));
        Ok(of)
    }
}

/// A name with dots is full already.
fn full_name(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

/// One that does not go with its type is passed over, as the specification asks. A UUID that is text stays it.
fn logical(object: &Map<String, Value>, kind: &Kind) -> Option<Logical> {
    let name = object.get("logicalType")?.as_str()?;
    let named = match kind {
        Kind::Int => ["date", "time-millis"].contains(&name),
        Kind::Long => [
            "time-micros",
            "timestamp-millis",
            "timestamp-micros",
            "timestamp-nanos",
            "local-timestamp-millis",
            "local-timestamp-micros",
            "local-timestamp-nanos",
        ]
        .contains(&name),
        Kind::Fixed(12) => name == "duration",
        _ => false,
    };
    if named {
        return Some(Logical::Named(name.to_owned()));
    }
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    let (precision, scale) = (number("precision")?, number("scale").unwrap_or(0));
    let fits = match kind {
        Kind::Bytes => true,
        // the most digits that all fit into so many bytes; beyond what the library takes it is only bytes
        Kind::Fixed(size) => (1..=32).contains(size) && precision <= (((*size * 8 - 1) as f64) * 2_f64.log10()) as u64,
        _ => false,
    };
    let is_decimal = name == "decimal" && fits && (1..=DIGITS_MAX).contains(&precision) && scale <= precision;
    is_decimal.then_some(Logical::Decimal { precision, scale })
}
