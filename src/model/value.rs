//! Pure. A value as a metering message can hold it, whichever encoding brought it.

/// One value of a metering message or of a resource's metadata.
///
/// Maps keep the order in which they arrived. Nothing depends on it: whoever signs or hashes a map
/// sorts its keys first.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Python's `None`, msgpack's nil, JSON's null.
    Null,
    /// A truth value.
    Bool(bool),
    /// Any integer that a signed or an unsigned 64-bit sender can express.
    Int(i128),
    /// A double; NaN and the infinities travel in msgpack and must not surprise anyone.
    Float(f64),
    /// Text; messages whose strings aren't UTF-8 are refused when they are decoded.
    Text(String),
    /// An ordered list; a tuple arrives as a list too.
    List(Vec<Value>),
    /// A map in order of arrival.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number as a double, if this is a number or a truth value (1 or 0, as Python has it).
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            #[allow(clippy::cast_precision_loss)] // what Python's float() does as well
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            Value::Bool(truth) => Some(f64::from(u8::from(*truth))),
            _ => None,
        }
    }

    /// The number, if this is an integer that fits `u64`.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The entries, if this is a map.
    pub fn as_map(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Int(i128::from(number))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Float(number)
    }
}
