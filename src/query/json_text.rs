//! `get_json_object(text, path)`, as in Spark: one value of a JSON text, as text.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, StringArray},
        datatypes::{DataType, Field, FieldRef},
    },
    common::{Result, plan_datafusion_err},
    functions::utils::make_scalar_function,
    logical_expr::{
        ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
    scalar::ScalarValue,
};

use crate::format::json::Path;

/// The function that SQL may call.
pub(super) fn function() -> ScalarUDF {
    let signature = Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable);
    ScalarUDF::from(GetJsonObject { signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct GetJsonObject {
    signature: Signature,
}

impl ScalarUDFImpl for GetJsonObject {
    fn name(&self) -> &str {
        "get_json_object"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    /// A path that stands in the query is checked with the query.
    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if let Some(Some(ScalarValue::Utf8(Some(path)))) = arguments.scalar_arguments.get(1) {
            parse(path)?;
        }
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        make_scalar_function(values, vec![])(&arguments.args)
    }
}

/// The value in each row's text.
fn values(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let (texts, paths) = (arguments[0].as_string::<i32>(), arguments[1].as_string::<i32>());
    let mut last: Option<(&str, Path)> = None;
    let mut found = Vec::with_capacity(texts.len());
    for row in 0..texts.len() {
        if texts.is_null(row) || paths.is_null(row) {
            found.push(None);
            continue;
        }
        // the path is the same in all rows, nearly always
        let written = paths.value(row);
        if last.as_ref().is_none_or(|(known, _)| *known != written) {
            last = Some((written, parse(written)?));
        }
        found.push(last.as_ref().and_then(|(_, path)| path.find(texts.value(row))));
    }
    Ok(Arc::new(StringArray::from(found)))
}

fn parse(path: &str) -> Result<Path> {
    Path::parse(path).map_err(|why| plan_datafusion_err!("get_json_object(): {why}"))
}
