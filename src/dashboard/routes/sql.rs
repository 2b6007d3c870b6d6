//! `GET /api/sql`: the answer of a statement of SQL that only reads, as it comes.

#[cfg(feature = "sql")]
pub(super) use within::get;
#[cfg(not(feature = "sql"))]
pub(super) use without::get;

#[cfg(not(feature = "sql"))]
mod without {
    use axum::http::StatusCode;

    use crate::dashboard::problem::Problem;

    pub(in crate::dashboard::routes) async fn get() -> Problem {
        Problem {
            status: StatusCode::NOT_IMPLEMENTED,
            detail: "this iotctl was built without SQL".to_owned(),
            remedy: Some("build it with `cargo build --features sql`; /api/stats needs no SQL".to_owned()),
        }
    }
}

#[cfg(feature = "sql")]
mod within {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use arrow_array::RecordBatch;
    use arrow_ipc::writer::StreamWriter;
    use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
    use axum::body::{Body, Bytes};
    use axum::extract::State;
    use axum::http::{HeaderMap, HeaderValue, Uri, header};
    use axum::response::{IntoResponse, Response};
    use datafusion::arrow::{csv, json};
    use datafusion::error::DataFusionError;
    use futures::{StreamExt as _, stream};
    use tokio::sync::mpsc;

    use crate::dashboard::app::App;
    use crate::dashboard::problem::Problem;
    use crate::dashboard::request::{Asked, within_deadline};
    use crate::dashboard::rows::Encoding;
    use crate::sql::context;

    /// Parts of an answer that wait for the client.
    const AHEAD: usize = 2;
    /// Of a statement, in bytes; a request's headers have less room than twice this.
    const MAX_STATEMENT: usize = 16 * 1024;

    pub(in crate::dashboard::routes) async fn get(
        State(app): State<App>,
        headers: HeaderMap,
        uri: Uri,
    ) -> Result<Response, Problem> {
        let asked = Asked::read(&uri, &["q", "format"])?;
        let encoding = Encoding::asked(asked.one("format")?, &headers)?;
        let statement = asked.one("q")?.unwrap_or_default().trim().trim_end_matches(';').trim_end();
        if statement.is_empty() || statement.len() > MAX_STATEMENT {
            let text =
                format!("q is not a statement (give 1 to {MAX_STATEMENT} bytes of SQL, such as q=SELECT 1)");
            return Err(Problem::bad_request(text));
        }
        let permit = app.permit().await?;
        let (mut batches, first) = within_deadline(async {
            let engine = app.engine().await?;
            let context = engine.context().await?;
            let mut batches = context::run(&context, statement).await.map_err(|error| refused(&error))?;
            // What is wrong with the first rows is said as a problem.
            let first = batches.next().await.transpose().map_err(|error| refused(&error))?;
            Ok((batches, first))
        })
        .await?;
        let mut writer =
            Writer::new(encoding, &batches.schema()).map_err(|error| Problem::internal(error.to_string()))?;
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
        tokio::spawn(async move {
            // Until the answer is sent.
            let _permit = permit;
            let mut next = first;
            loop {
                let part = match &next {
                    Some(batch) => writer.write(batch),
                    None => writer.finish(),
                };
                let part = part.map_err(io::Error::other);
                let is_end = next.is_none() || part.is_err();
                // A client that is gone, or does not read (`http::WRITE_TIMEOUT`), has no connection any longer. That ends
                // the statement: nothing holds its stream.
                if sender.send(part).await.is_err() || is_end {
                    return;
                }
                let batch = tokio::select! {
                    batch = batches.next() => batch,
                    () = sender.closed() => return,
                };
                next = match batch.transpose() {
                    Ok(next) => next,
                    // The status is sent already: the answer breaks off.
                    Err(error) => {
                        let _ = sender.send(Err(io::Error::other(error))).await;
                        return;
                    }
                };
            }
        });
        let parts = stream::unfold(receiver, async |mut receiver| {
            let part = receiver.recv().await?;
            Some((part, receiver))
        });
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(encoding.content_type()))];
        Ok((kind, Body::from_stream(parts)).into_response())
    }

    /// A buffer that is taken after each batch.
    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn take(&self) -> Bytes {
            std::mem::take(&mut *self.bytes()).into()
        }
    }

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.bytes().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    enum Form {
        Arrow(Box<StreamWriter<Buffer>>),
        Csv(Box<csv::Writer<Buffer>>),
        Ndjson(json::LineDelimitedWriter<Buffer>),
        Json(json::ArrayWriter<Buffer>),
    }

    struct Writer {
        buffer: Buffer,
        schema: SchemaRef,
        form: Form,
    }

    impl Writer {
        fn new(encoding: Encoding, schema: &Schema) -> Result<Self, ArrowError> {
            let (buffer, schema) = (Buffer::default(), with_distinct_names(schema));
            let form = match encoding {
                Encoding::Arrow => Form::Arrow(Box::new(StreamWriter::try_new(buffer.clone(), &schema)?)),
                Encoding::Csv => Form::Csv(Box::new(csv::Writer::new(buffer.clone()))),
                Encoding::Ndjson => Form::Ndjson(json::LineDelimitedWriter::new(buffer.clone())),
                Encoding::Json => Form::Json(json::ArrayWriter::new(buffer.clone())),
            };
            let mut writer = Self { buffer, schema, form };
            if let Form::Csv(headings) = &mut writer.form {
                headings.write(&RecordBatch::new_empty(writer.schema.clone()))?;
            }
            Ok(writer)
        }

        fn write(&mut self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
            let batch = RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec())?;
            match &mut self.form {
                Form::Arrow(writer) => writer.write(&batch)?,
                Form::Csv(writer) => writer.write(&batch)?,
                Form::Ndjson(writer) => writer.write(&batch)?,
                Form::Json(writer) => writer.write(&batch)?,
            }
            Ok(self.buffer.take())
        }

        fn finish(&mut self) -> Result<Bytes, ArrowError> {
            match &mut self.form {
                Form::Arrow(writer) => writer.finish()?,
                Form::Csv(_) => {}
                Form::Ndjson(writer) => writer.finish()?,
                Form::Json(writer) => writer.finish()?,
            }
            Ok(self.buffer.take())
        }
    }

    /// JSON needs each name once.
    fn with_distinct_names(schema: &Schema) -> SchemaRef {
        let mut fields: Vec<Field> = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let mut name = field.name().clone();
            let mut number = 2;
            while fields.iter().any(|known| *known.name() == name) {
                name = format!("{}_{number}", field.name());
                number += 1;
            }
            fields.push(field.as_ref().clone().with_name(name));
        }
        Arc::new(Schema::new(fields))
    }

    /// What is wrong with the statement is a mistake of its author; all else failed.
    fn refused(error: &DataFusionError) -> Problem {
        let text = error.strip_backtrace().split_whitespace().collect::<Vec<_>>().join(" ");
        match error.find_root() {
            DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::ResourcesExhausted(_) => Problem::bad_request(text),
            _ => Problem::internal(text),
        }
    }

    #[cfg(test)]
    mod tests {
        use std::sync::Arc;

        use arrow_array::{Int64Array, StringArray};
        use arrow_schema::DataType;

        use super::*;

        #[test]
        fn an_answer_is_written_in_parts_and_each_name_once() {
            let field = |name: &str, kind| Field::new(name, kind, true);
            let schema = Schema::new(vec![field("n", DataType::Int64), field("n", DataType::Utf8)]);
            let columns: Vec<arrow_array::ArrayRef> = vec![
                Arc::new(Int64Array::from(vec![Some(1), None])),
                Arc::new(StringArray::from(vec![Some("a,b"), Some("c")])),
            ];
            let batch = RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap();
            for (encoding, expected) in [
                (Encoding::Csv, "n,n_2\n1,\"a,b\"\n,c\n1,\"a,b\"\n,c\n"),
                (
                    Encoding::Json,
                    "[{\"n\":1,\"n_2\":\"a,b\"},{\"n_2\":\"c\"},{\"n\":1,\"n_2\":\"a,b\"},{\"n_2\":\"c\"}]",
                ),
                (
                    Encoding::Ndjson,
                    "{\"n\":1,\"n_2\":\"a,b\"}\n{\"n_2\":\"c\"}\n{\"n\":1,\"n_2\":\"a,b\"}\n{\"n_2\":\"c\"}\n",
                ),
            ] {
                let mut writer = Writer::new(encoding, &schema).unwrap();
                let mut text = Vec::new();
                for _ in 0..2 {
                    text.extend(writer.write(&batch).unwrap());
                }
                text.extend(writer.finish().unwrap());
                assert_eq!(String::from_utf8(text).unwrap(), expected);
            }
        }
    }
}
