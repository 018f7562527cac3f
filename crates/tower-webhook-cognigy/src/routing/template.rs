//! Templates: parsed once, rendered with bounds, and what they give checked.

use super::{PayloadFormat, RouteErrorKind, language, xml};
use crate::template::{self, NAME};
use bytes::Bytes;
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value,
    value::{Enumerator, Kwargs, Object, ValueKind},
};
use serde::{Serialize, Serializer, ser::Error as _};
use std::{
    io,
    ops::Range,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tower_webhook::InvalidConfig;

/// Calls within calls, such as a recursive loop.
const DEEPEST_CALL: usize = 64;

/// Lists and objects within each other, in a value that is written: as deep as an event may be.
const DEEPEST_VALUE: usize = 128;

/// What a template may do before it is ended: so many steps, or 64 times as many bytes that it makes on the way.
const STEPS: u64 = 100_000;

/// How long a template may take, whatever it is that takes so long: the engine counts no comparison within lists.
const LONGEST: Duration = Duration::from_secs(2);

/// The longest piece of a template in an error, in characters.
const LONGEST_QUOTE: usize = 80;

/// A parsed template.
#[derive(Clone, Debug)]
pub(super) struct Template {
    environment: Arc<Environment<'static>>,
    format: PayloadFormat,
    limit: usize,
}

impl Template {
    /// Parses a template whose result takes `limit` bytes at most.
    pub(super) fn parse(
        source: &str,
        format: PayloadFormat,
        limit: usize,
    ) -> Result<Self, InvalidConfig> {
        let mut environment = base(format).clone();
        let by_size = u64::try_from(limit).unwrap_or(u64::MAX);
        environment.set_fuel(Some(STEPS.saturating_add(by_size)));
        template::parse(&mut environment, source, language::timed, |error, line| {
            // The text of a template is an operator's: its errors may quote it.
            let what = error.detail().unwrap_or("it cannot be parsed");
            format!("is not a template: line {line}: {what}")
        })?;
        language::check(source, format, &environment)?;
        Ok(Self {
            environment: Arc::new(environment),
            format,
            limit,
        })
    }

    /// Renders the template and checks the result.
    pub(super) fn render(&self, context: Context) -> Result<Bytes, RouteErrorKind> {
        let mut out = Limited {
            bytes: Vec::with_capacity(256),
            limit: self.limit,
            exceeded: false,
        };
        let template = self
            .environment
            .get_template(NAME)
            .map_err(|error| explain(&error, ""))?;
        let rendered = template.render_captured_to(Value::from_object(context), &mut out);
        if let Err(error) = rendered.map(drop) {
            if out.exceeded {
                return Err(RouteErrorKind::TooLarge { limit: self.limit });
            }
            return Err(explain(&error, template.source()));
        }
        self.checked(out.bytes)
    }

    fn checked(&self, bytes: Vec<u8>) -> Result<Bytes, RouteErrorKind> {
        match self.format {
            PayloadFormat::Json => {
                serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|error| {
                    RouteErrorKind::NotJson {
                        line: error.line(),
                        column: error.column(),
                    }
                })?;
            }
            PayloadFormat::Xml => {
                let text = str::from_utf8(&bytes).map_err(|_| "it is not UTF-8");
                text.and_then(xml::check)
                    .map_err(|problem| RouteErrorKind::NotXml { problem })?;
            }
        }
        Ok(bytes.into())
    }
}

/// The environment of a format: all but what reaches further than the event, marks text as safe, or nests without
/// end. There is no loader, and the engine is built without macros, includes and imports.
fn base(format: PayloadFormat) -> &'static Environment<'static> {
    static JSON: OnceLock<Environment<'static>> = OnceLock::new();
    static XML: OnceLock<Environment<'static>> = OnceLock::new();
    let (environment, name) = match format {
        PayloadFormat::Json => (&JSON, "json"),
        PayloadFormat::Xml => (&XML, "xml"),
    };
    environment.get_or_init(|| {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_recursion_limit(DEEPEST_CALL);
        // Only a name: the formatter escapes whatever `{% autoescape %}` says.
        environment.set_auto_escape_callback(move |_| AutoEscape::Custom(name.into()));
        environment.remove_global("debug");
        environment.remove_global("namespace");
        for filter in [
            "batch", "chain", "e", "escape", "pprint", "safe", "slice", "zip",
        ] {
            environment.remove_filter(filter);
        }
        environment.add_filter("join", join);
        environment.add_filter("string", string);
        environment.add_filter("sum", sum);
        environment.add_filter("times", times);
        match format {
            PayloadFormat::Json => {
                environment.add_filter("tojson", to_json);
                environment.set_formatter(write_json);
            }
            PayloadFormat::Xml => {
                environment.remove_filter("tojson");
                environment.set_formatter(write_xml);
            }
        }
        environment
    })
}

/// Writes a value as JSON. What is safe already was rendered by the same template: a block that was captured.
fn write_json(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if let (true, Some(text)) = (value.is_safe(), value.as_str()) {
        return out.write_str(text).map_err(Error::from);
    }
    serde_json::to_writer(Utf8(out), &Json(value, 0)).map_err(|error| no_json(&error))
}

fn no_json(error: &serde_json::Error) -> Error {
    // Its text is one of those below, or that of the output.
    let undefined = error.to_string().starts_with(UNDEFINED);
    Error::from(if undefined {
        ErrorKind::UndefinedError
    } else {
        ErrorKind::BadSerialization
    })
}

/// The bytes for which there is fuel, with a margin: what is made here takes more than a copy.
fn affordable(state: &State<'_, '_>) -> usize {
    let remaining = state.fuel_levels().map_or(0, |(_, remaining)| remaining);
    usize::try_from(remaining.saturating_mul(4)).unwrap_or(usize::MAX)
}

fn pay(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(u64::try_from(bytes / 4).unwrap_or(u64::MAX))
}

/// `|tojson`: the JSON that the value would be, as it would be written. The engine's own writes null for what is
/// undefined, and as many spaces as it is told.
fn to_json(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    let mut out = Limited {
        bytes: Vec::new(),
        limit: affordable(state),
        exceeded: false,
    };
    if let Err(error) = serde_json::to_writer(&mut out, &Json(value, 0)) {
        return Err(if out.exceeded {
            ErrorKind::OutOfFuel.into()
        } else {
            no_json(&error)
        });
    }
    pay(state, out.bytes.len())?;
    let text = String::from_utf8(out.bytes).map_err(|_| ErrorKind::BadSerialization)?;
    Ok(Value::from_safe_string(text))
}

/// `|string`: of all but text the JSON, which the engine's own would write as Python does.
fn string(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    if value.as_str().is_some() {
        return Ok(value.clone());
    }
    let json = to_json(state, value)?;
    Ok(Value::from(json.as_str().unwrap_or_default()))
}

/// `|join`: of texts as `|string` gives them. The engine's own writes nothing for what is undefined.
fn join(state: &State<'_, '_>, value: &Value, between: Option<&str>) -> Result<Value, Error> {
    let between = between.unwrap_or_default();
    let limit = affordable(state);
    let mut text = String::new();
    for (at, item) in value.try_iter()?.enumerate() {
        let item = string(state, &item)?;
        let item = item.as_str().unwrap_or_default();
        if text.len() + between.len() + item.len() > limit {
            return Err(ErrorKind::OutOfFuel.into());
        }
        if at > 0 {
            text.push_str(between);
        }
        text.push_str(item);
        state.consume_fuel(1)?;
    }
    pay(state, text.len())?;
    Ok(Value::from(text))
}

/// `|sum`: of numbers. The engine's own leaves out what is undefined.
#[expect(clippy::needless_pass_by_value, reason = "the engine gives it so")]
fn sum(state: &State<'_, '_>, value: &Value, attribute: Kwargs) -> Result<Value, Error> {
    let name: Option<Value> = attribute.get("attribute")?;
    attribute.assert_all_used()?;
    let mut sum = Number::Whole(0);
    for item in value.try_iter()? {
        let item = match &name {
            Some(name) => item.get_item(name)?,
            None => item,
        };
        sum = sum.plus(Number::of(&item)?)?;
        state.consume_fuel(1)?;
    }
    Ok(sum.into())
}

/// `|times`: of numbers, where Jinja's `*` also repeats texts and lists.
fn times(value: &Value, times: &Value) -> Result<Value, Error> {
    Ok(Number::of(value)?.times(Number::of(times)?)?.into())
}

#[derive(Clone, Copy)]
enum Number {
    Whole(i128),
    Float(f64),
}

impl Number {
    fn of(value: &Value) -> Result<Self, Error> {
        match value.kind() {
            ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
            ValueKind::Number if value.is_integer() => {
                i128::try_from(value.clone()).map(Self::Whole)
            }
            ValueKind::Number => f64::try_from(value.clone()).map(Self::Float),
            _ => Err(ErrorKind::InvalidOperation.into()),
        }
    }

    fn plus(self, other: Self) -> Result<Self, Error> {
        self.with(other, i128::checked_add, |one, other| one + other)
    }

    fn times(self, other: Self) -> Result<Self, Error> {
        self.with(other, i128::checked_mul, |one, other| one * other)
    }

    fn with(
        self,
        other: Self,
        whole: fn(i128, i128) -> Option<i128>,
        float: fn(f64, f64) -> f64,
    ) -> Result<Self, Error> {
        if let (Self::Whole(one), Self::Whole(other)) = (self, other) {
            let result = whole(one, other).ok_or(ErrorKind::InvalidOperation)?;
            return Ok(Self::Whole(result));
        }
        Ok(Self::Float(float(self.float(), other.float())))
    }

    #[expect(clippy::cast_precision_loss, reason = "as every sum with a float")]
    const fn float(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Whole(number) => Self::from(number),
            Number::Float(number) => Self::from(number),
        }
    }
}

const UNDEFINED: &str = "undefined";

/// A value as JSON; nothing undefined is in it, which minijinja would write as null.
struct Json<'a>(&'a Value, usize);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(value, depth) = *self;
        if depth > DEEPEST_VALUE {
            return Err(S::Error::custom("nested too deeply"));
        }
        match value.kind() {
            ValueKind::Undefined => Err(S::Error::custom(UNDEFINED)),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter().map_err(S::Error::custom)?;
                let items: Vec<_> = items.collect();
                serializer.collect_seq(items.iter().map(|item| Json(item, depth + 1)))
            }
            ValueKind::Map => {
                let keys = value.try_iter().map_err(S::Error::custom)?;
                let mut members = Vec::new();
                for key in keys {
                    let member = value.get_item(&key).map_err(S::Error::custom)?;
                    members.push((key, member));
                }
                let members = members.iter();
                serializer
                    .collect_map(members.map(|(key, member)| (Key(key), Json(member, depth + 1))))
            }
            ValueKind::Number => {
                // What JSON has no number for would become null.
                let finite = || f64::try_from(value.clone()).is_ok_and(f64::is_finite);
                if !value.is_integer() && !finite() {
                    return Err(S::Error::custom("not a number"));
                }
                value.serialize(serializer)
            }
            ValueKind::None | ValueKind::Bool | ValueKind::String => value.serialize(serializer),
            _ => Err(S::Error::custom("no JSON")),
        }
    }
}

struct Key<'a>(&'a Value);

impl Serialize for Key<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_str() {
            Some(text) => serializer.serialize_str(text),
            None => serializer.collect_str(self.0),
        }
    }
}

/// Writes a value as the text of an element or attribute: null as nothing.
fn write_xml(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::None => Ok(()),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            if value.is_safe() {
                return out.write_str(text).map_err(Error::from);
            }
            if !text.chars().all(xml::is_char) {
                return Err(Error::new(ErrorKind::BadSerialization, ILLEGAL));
            }
            xml::write_escaped(out, text).map_err(Error::from)
        }
        // The engine writes Python's `True`.
        ValueKind::Bool => out
            .write_str(if value.is_true() { "true" } else { "false" })
            .map_err(Error::from),
        ValueKind::Number => write!(out, "{value}").map_err(Error::from),
        _ => Err(Error::new(ErrorKind::BadSerialization, STRUCTURE)),
    }
}

const ILLEGAL: &str = "the value has a character that XML does not permit";
const STRUCTURE: &str = "a list or object has no form in XML: write its elements in a loop";

/// Whole strings are written, so that the bytes are UTF-8.
struct Utf8<'a, 'b>(&'a mut Output<'b>);

impl io::Write for Utf8<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = str::from_utf8(bytes).map_err(io::Error::other)?;
        self.0.write_str(text).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes up to a limit.
struct Limited {
    bytes: Vec<u8>,
    limit: usize,
    exceeded: bool,
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What went wrong, in words that have nothing of the event: the engine's own quote values.
fn explain(error: &Error, source: &str) -> RouteErrorKind {
    if error.kind() == ErrorKind::OutOfFuel {
        return RouteErrorKind::TooMuchWork;
    }
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::BadSerialization, Some(ILLEGAL)) => ILLEGAL,
        (ErrorKind::BadSerialization, Some(STRUCTURE)) => STRUCTURE,
        (ErrorKind::UndefinedError, _) => "nothing of this name is there",
        (ErrorKind::UnknownFilter, _) => "there is no such filter",
        (ErrorKind::UnknownFunction, _) => "there is no such function",
        (ErrorKind::UnknownMethod, _) => "there is no such method",
        (ErrorKind::UnknownTest, _) => "there is no such test",
        (ErrorKind::MissingArgument | ErrorKind::TooManyArguments, _) => {
            "the number of arguments is wrong"
        }
        (ErrorKind::BadSerialization | ErrorKind::NonPrimitive | ErrorKind::NonKey, _) => {
            "the value has no form here"
        }
        _ => "the operation failed on this value",
    };
    let at = error.range().and_then(|range| piece(source, range));
    RouteErrorKind::Template {
        line: error.line(),
        at,
        what,
    }
}

/// The piece of a template where an error is, with the name before it: of `profile.email`, the engine points at `.email`.
fn piece(source: &str, range: Range<usize>) -> Option<String> {
    let before = source.get(..range.start)?;
    let is_name = |char: char| char.is_alphanumeric() || matches!(char, '_' | '.');
    let start = before.trim_end_matches(is_name).len();
    let piece = source.get(start..range.end)?;
    Some(piece.chars().take(LONGEST_QUOTE).collect())
}

/// The variables of a template: the lookups by their names, `event`, and the members of the event. A lookup stands
/// before a member of its name, so that a sender cannot stand in for it.
#[derive(Debug)]
pub(super) struct Context {
    event: Value,
    lookups: Vec<(Arc<str>, Value)>,
    until: Instant,
}

impl Context {
    pub(super) fn new(event: Value, lookups: Vec<(Arc<str>, Value)>) -> Self {
        Self {
            event,
            lookups,
            until: Instant::now() + LONGEST,
        }
    }
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let name = key.as_str()?;
        if Instant::now() > self.until {
            return Some(Error::from(ErrorKind::OutOfFuel).into());
        }
        if name == language::CLOCK {
            return Some(Value::from(false));
        }
        if let Some((_, found)) = self.lookups.iter().find(|(lookup, _)| **lookup == *name) {
            return Some(found.clone());
        }
        if name == "event" {
            return Some(self.event.clone());
        }
        let member = self.event.get_attr(name).ok()?;
        Some(member).filter(|member| !member.is_undefined())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

/// JSON as a value of the engine. Not by serde, so that it is the same whatever the features of `serde_json` are.
pub(super) fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::from(()),
        Json::Bool(bool) => Value::from(*bool),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(members) => Value::from_pairs(
            members
                .iter()
                .map(|(key, member)| (key.as_str(), value(member))),
        ),
    }
}
