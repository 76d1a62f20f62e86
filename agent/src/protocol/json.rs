//! JSON from outside: bounded depth, no duplicate keys, no unknown members, every value in its bounds.

use std::fmt;

use base64ct::{Base64, Encoding};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a document is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum JsonError {
    Syntax(String),
    Missing(String),
    Unknown(String),
    Value(String, &'static str),
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(reason) => write!(f, "not JSON we accept: {reason}"),
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Unknown(name) => write!(f, "{name} is unknown"),
            Self::Value(name, expected) => write!(f, "{name} is not {expected}"),
        }
    }
}

/// Parses one document nested at most `depth` deep.
pub fn parse(bytes: &[u8], depth: usize) -> Result<Value, JsonError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|e| JsonError::Syntax(e.to_string()))?;
    Ok(value)
}

/// Builds a value as serde_json does, but two equal keys are an error: two readers could see two values.
struct Strict {
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Strict {
    fn deeper<E: de::Error>(&self) -> Result<usize, E> {
        self.depth.checked_sub(1).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Strict { depth })? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value_seed(Strict { depth })?;
            if object.contains_key(&key) {
                return Err(de::Error::custom(format_args!("key {key:?} twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// The members of an object, taken one by one; `end` refuses what nobody took.
pub struct Members {
    path: String,
    map: Map<String, Value>,
}

impl Members {
    /// `path` names the object in errors: `process.user`.
    pub fn of(path: &str, value: Value) -> Result<Self, JsonError> {
        match value {
            Value::Object(map) => Ok(Self { path: path.to_owned(), map }),
            _ => Err(JsonError::Value(path.to_owned(), "an object")),
        }
    }

    /// The full name of a member.
    pub fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// An error about a member.
    pub fn refuse(&self, key: &str, expected: &'static str) -> JsonError {
        JsonError::Value(self.name(key), expected)
    }

    /// Whether the member is there.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// A member of any type.
    pub fn value(&mut self, key: &str) -> Result<Value, JsonError> {
        self.map.remove(key).ok_or_else(|| JsonError::Missing(self.name(key)))
    }

    /// A string of `min` to `max` UTF-8 bytes.
    pub fn string(&mut self, key: &str, min: usize, max: usize) -> Result<String, JsonError> {
        match self.value(key)? {
            Value::String(text) if (min..=max).contains(&text.len()) => Ok(text),
            _ => Err(self.refuse(key, "a string within bounds")),
        }
    }

    /// As `string`, if it is there.
    pub fn optional_string(&mut self, key: &str, min: usize, max: usize) -> Result<Option<String>, JsonError> {
        if self.has(key) { self.string(key, min, max).map(Some) } else { Ok(None) }
    }

    /// A whole number from `min` to `max`.
    pub fn integer(&mut self, key: &str, min: u64, max: u64) -> Result<u64, JsonError> {
        match self.value(key)?.as_u64() {
            Some(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(self.refuse(key, "a whole number within bounds")),
        }
    }

    /// A whole number of 32 bits, at least `min`.
    pub fn u32(&mut self, key: &str, min: u32) -> Result<u32, JsonError> {
        let number = self.integer(key, u64::from(min), u64::from(u32::MAX))?;
        u32::try_from(number).map_err(|_| self.refuse(key, "a whole number within bounds"))
    }

    /// A whole number of 16 bits, at least `min`.
    pub fn u16(&mut self, key: &str, min: u16) -> Result<u16, JsonError> {
        let number = self.integer(key, u64::from(min), u64::from(u16::MAX))?;
        u16::try_from(number).map_err(|_| self.refuse(key, "a whole number within bounds"))
    }

    /// True or false.
    pub fn boolean(&mut self, key: &str) -> Result<bool, JsonError> {
        self.value(key)?.as_bool().ok_or_else(|| self.refuse(key, "true or false"))
    }

    /// Bytes in padded base64, at most `max` once decoded.
    pub fn bytes(&mut self, key: &str, max: usize) -> Result<Vec<u8>, JsonError> {
        let text = self.string(key, 0, max.div_ceil(3) * 4)?;
        match Base64::decode_vec(&text) {
            Ok(bytes) if bytes.len() <= max => Ok(bytes),
            _ => Err(self.refuse(key, "base64 within bounds")),
        }
    }

    /// An array of at most `max` values.
    pub fn array(&mut self, key: &str, max: usize) -> Result<Vec<Value>, JsonError> {
        match self.value(key)? {
            Value::Array(items) if items.len() <= max => Ok(items),
            _ => Err(self.refuse(key, "an array within bounds")),
        }
    }

    /// An array of at most `count` strings of `min` to `max` bytes without NUL.
    pub fn texts(&mut self, key: &str, count: usize, min: usize, max: usize) -> Result<Vec<String>, JsonError> {
        let items = self.array(key, count)?;
        items
            .into_iter()
            .map(|item| match item {
                Value::String(text) if (min..=max).contains(&text.len()) && !text.contains('\0') => Ok(text),
                _ => Err(self.refuse(key, "an array of strings within bounds")),
            })
            .collect()
    }

    /// An object.
    pub fn object(&mut self, key: &str) -> Result<Members, JsonError> {
        let name = self.name(key);
        Members::of(&name, self.value(key)?)
    }

    /// Refuses members nobody asked for.
    pub fn end(self) -> Result<(), JsonError> {
        match self.map.keys().next() {
            Some(key) => Err(JsonError::Unknown(self.name(key))),
            None => Ok(()),
        }
    }
}
