//! `parse_url(url, part[, key])`, as in Spark: one part of a URL, or one value of its query.
//!
//! Read as browsers read it (<https://url.spec.whatwg.org>, by the crate `url`), so a host is in small letters, an empty path is
//! `/`, and a port that goes without saying is left out. A path alone, as log files have it, has no protocol and no host, and stays
//! as it is written. What is no URL has no parts.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, StringArray},
        datatypes::{DataType, Field, FieldRef},
    },
    common::{Result, plan_err},
    functions::utils::make_scalar_function,
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
        Volatility,
    },
    scalar::ScalarValue,
};
use url::{Position, Url};

/// What may be asked for.
const PARTS: [&str; 8] = ["PROTOCOL", "HOST", "PATH", "QUERY", "REF", "FILE", "AUTHORITY", "USERINFO"];

/// The function that SQL may call.
pub(super) fn function() -> ScalarUDF {
    let strings = |count| TypeSignature::Exact(vec![DataType::Utf8; count]);
    ScalarUDF::from(ParseUrl { signature: Signature::one_of(vec![strings(2), strings(3)], Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ParseUrl {
    signature: Signature,
}

impl ScalarUDFImpl for ParseUrl {
    fn name(&self) -> &str {
        "parse_url"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    /// A part that stands in the query is checked with the query.
    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if let Some(Some(ScalarValue::Utf8(Some(part)))) = arguments.scalar_arguments.get(1) {
            check(part, arguments.scalar_arguments.len() > 2)?;
        }
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        make_scalar_function(parts, vec![])(&arguments.args)
    }
}

/// The part of each row's URL.
fn parts(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let (urls, parts) = (arguments[0].as_string::<i32>(), arguments[1].as_string::<i32>());
    let keys = arguments.get(2).map(|keys| keys.as_string::<i32>());
    let of_row = |row: usize| {
        let key = keys.map(|keys| keys.is_valid(row).then(|| keys.value(row)));
        // a key that is null asks for nothing
        if urls.is_null(row) || parts.is_null(row) || key == Some(None) {
            return Ok(None);
        }
        part(urls.value(row), parts.value(row), key.flatten())
    };
    Ok(Arc::new((0..urls.len()).map(of_row).collect::<Result<StringArray>>()?))
}

/// One part, which must be one of [`PARTS`].
fn part(url: &str, part: &str, key: Option<&str>) -> Result<Option<String>> {
    check(part, key.is_some())?;
    if url.starts_with('/') {
        return Ok(part_of_path(url, part, key));
    }
    let Ok(url) = Url::parse(url) else { return Ok(None) };
    let own = |part: &str| (!part.is_empty()).then(|| part.to_owned());
    Ok(match part {
        "PROTOCOL" => own(url.scheme()),
        "HOST" => url.host_str().and_then(own),
        "AUTHORITY" => own(&url[Position::BeforeUsername..Position::AfterPort]),
        "USERINFO" => own(&url[Position::BeforeUsername..Position::AfterPassword]),
        "PATH" => Some(url.path().to_owned()),
        "FILE" => Some(url[Position::BeforePath..Position::AfterQuery].to_owned()),
        "REF" => url.fragment().map(str::to_owned),
        _ => value_of(url.query(), key),
    })
}

fn part_of_path(written: &str, part: &str, key: Option<&str>) -> Option<String> {
    let (file, fragment) = written.split_once('#').map_or((written, None), |(file, rest)| (file, Some(rest)));
    let (path, query) = file.split_once('?').map_or((file, None), |(path, rest)| (path, Some(rest)));
    match part {
        "PATH" => Some(path.to_owned()),
        "FILE" => Some(file.to_owned()),
        "REF" => fragment.map(str::to_owned),
        "QUERY" => value_of(query, key),
        _ => None,
    }
}

/// A query, or the value of one key in it, as they are written.
fn value_of(query: Option<&str>, key: Option<&str>) -> Option<String> {
    let Some(key) = key else { return query.map(str::to_owned) };
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
}

/// # Errors
/// Where there is no such part, or it has no keys.
fn check(part: &str, has_key: bool) -> Result<()> {
    if !PARTS.contains(&part) {
        return plan_err!("parse_url() knows no part '{part}': there are {}", PARTS.join(", "));
    }
    if has_key && part != "QUERY" {
        return plan_err!("parse_url() takes a key for QUERY, and not for {part}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "https://me:secret@Example.com:8443/a/b.html?q=1&r=x%20y&q=2#top";

    #[test]
    fn parts_of_a_url() {
        for (name, expected) in [
            ("PROTOCOL", "https"),
            ("HOST", "example.com"),
            ("PATH", "/a/b.html"),
            ("QUERY", "q=1&r=x%20y&q=2"),
            ("REF", "top"),
            ("FILE", "/a/b.html?q=1&r=x%20y&q=2"),
            ("AUTHORITY", "me:secret@example.com:8443"),
            ("USERINFO", "me:secret"),
        ] {
            assert_eq!(part(WHOLE, name, None).unwrap().as_deref(), Some(expected), "{name}");
        }
        for (key, expected) in [("q", Some("1")), ("r", Some("x%20y")), ("s", None)] {
            assert_eq!(part(WHOLE, "QUERY", Some(key)).unwrap().as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn a_path_alone_has_no_host() {
        let path = "/images/logo.gif?size=2";
        for (name, expected) in
            [("PATH", Some("/images/logo.gif")), ("QUERY", Some("size=2")), ("HOST", None), ("PROTOCOL", None)]
        {
            assert_eq!(part(path, name, None).unwrap().as_deref(), expected, "{name}");
        }
        assert_eq!(part("http://h", "USERINFO", None).unwrap(), None);
        for (path, expected) in [("//wp-admin/x?q=1", "//wp-admin/x"), ("/a/../b#c?d", "/a/../b"), ("/x\\y", "/x\\y")] {
            assert_eq!(part(path, "PATH", None).unwrap().as_deref(), Some(expected), "{path}");
        }
        for none in ["http://[bad", "*", "", "a/b"] {
            assert_eq!(part(none, "PATH", None).unwrap(), None, "'{none}' is no URL");
        }
    }

    #[test]
    fn what_cannot_be_asked_for_is_named() {
        let error = part(WHOLE, "HOSTS", None).unwrap_err().to_string();
        assert!(error.contains("no part 'HOSTS'") && error.contains("PROTOCOL, HOST"), "{error}");
        assert!(part(WHOLE, "HOST", Some("q")).unwrap_err().to_string().contains("not for HOST"));
    }
}
