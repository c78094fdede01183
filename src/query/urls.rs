//! `parse_url(url, part[, key])`, as in Spark: one part of a URL, or one value of its query.
//!
//! Read as browsers read it (<https://url.spec.whatwg.org>, by the crate `url`), so a host is in small letters and an empty path is
//! `/`. A path alone, as log files have it, is a URL without protocol and host. What is no URL has no parts.

use std::{borrow::Cow, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, StringArray},
        datatypes::DataType,
    },
    common::{Result, exec_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility},
    scalar::ScalarValue,
};
use url::{ParseError, Position, Url};

/// Where a path stands that has no host; never shown.
const NOWHERE: &str = "http://nowhere.invalid";

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

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let (urls, parts) = (arrays[0].as_string::<i32>(), arrays[1].as_string::<i32>());
        let keys = arrays.get(2).map(|keys| keys.as_string::<i32>());
        let of_row = |row: usize| {
            let key = keys.map(|keys| keys.is_valid(row).then(|| keys.value(row)));
            // a key that is null asks for nothing
            if urls.is_null(row) || parts.is_null(row) || key == Some(None) {
                return Ok(None);
            }
            part(urls.value(row), parts.value(row), key.flatten())
        };
        let found: StringArray = (0..urls.len()).map(of_row).collect::<Result<_>>()?;
        let found: ArrayRef = Arc::new(found);
        let all_scalars = arguments.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        if all_scalars && found.len() == 1 {
            return ScalarValue::try_from_array(&found, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(found))
    }
}

/// # Errors
/// Where there is no such part.
fn part(url: &str, part: &str, key: Option<&str>) -> Result<Option<String>> {
    if !PARTS.contains(&part) {
        return exec_err!("parse_url() knows no part '{part}': there are {}", PARTS.join(", "));
    }
    if key.is_some() && part != "QUERY" {
        return exec_err!("parse_url() takes a key for QUERY, and not for {part}");
    }
    let (url, is_path) = match Url::parse(url) {
        Err(ParseError::RelativeUrlWithoutBase) => (Url::parse(NOWHERE).and_then(|base| base.join(url)), true),
        parsed => (parsed, false),
    };
    let Ok(url) = url else { return Ok(None) };
    let own = |part: Option<&str>| part.filter(|part| !is_path && !part.is_empty()).map(str::to_owned);
    Ok(match part {
        "PROTOCOL" => own(Some(url.scheme())),
        "HOST" => own(url.host_str()),
        "AUTHORITY" => own(Some(&url[Position::BeforeUsername..Position::AfterPort])),
        "USERINFO" => own(Some(&url[Position::BeforeUsername..Position::AfterPassword])),
        "PATH" => Some(url.path().to_owned()),
        "FILE" => Some(url[Position::BeforePath..Position::AfterQuery].to_owned()),
        "REF" => url.fragment().map(str::to_owned),
        _ => match key {
            None => url.query().map(str::to_owned),
            Some(key) => url.query_pairs().find(|(name, _)| name == key).map(|(_, value)| Cow::into_owned(value)),
        },
    })
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
        for (key, expected) in [("q", Some("1")), ("r", Some("x y")), ("s", None)] {
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
        assert_eq!(part("http://[bad", "PATH", None).unwrap(), None, "it is no URL");
    }

    #[test]
    fn what_cannot_be_asked_for_is_named() {
        let error = part(WHOLE, "HOSTS", None).unwrap_err().to_string();
        assert!(error.contains("no part 'HOSTS'") && error.contains("PROTOCOL, HOST"), "{error}");
        assert!(part(WHOLE, "HOST", Some("q")).unwrap_err().to_string().contains("not for HOST"));
    }
}
