//! What a CREATE statement defines: an object's kind, name and shape, read from its tokens. It takes the CQL that
//! schema.cql is written in, and refuses the rest instead of guessing.

use std::collections::BTreeMap;

use super::Error;
use super::lexer::{self, Kind, Token};

/// An object of the schema and the statement that creates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub keyspace: String,
    pub object: Object,
    /// The statement, without a semicolon.
    pub cql: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    /// Its replication is compared as [`super::Settings`] has it.
    Keyspace,
    Table(String, Shape),
    View(String, View),
}

impl Definition {
    /// `keyspace` or `keyspace.table`.
    pub(super) fn qualified_name(&self) -> String {
        match &self.object {
            Object::Keyspace => self.keyspace.clone(),
            Object::Table(name, _) | Object::View(name, _) => format!("{}.{name}", self.keyspace),
        }
    }
}

/// Columns, keys and the options that are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// Name -> type, as the system tables write it.
    pub columns: BTreeMap<String, String>,
    pub partition_key: Vec<String>,
    /// (column, order), in the order of the key.
    pub clustering: Vec<(String, Order)>,
    /// Seconds.
    pub ttl: Option<String>,
    pub compaction: BTreeMap<String, String>,
}

impl Shape {
    /// The primary key as CQL writes it.
    pub(super) fn primary_key(&self) -> String {
        let clustering: String = self.clustering.iter().map(|(name, _)| format!(", {name}")).collect();
        format!("(({}){clustering})", self.partition_key.join(", "))
    }

    /// The clustering order as CQL writes it.
    pub(super) fn clustering_order(&self) -> String {
        let columns: Vec<_> =
            self.clustering.iter().map(|(name, order)| format!("{name} {}", order.name())).collect();
        format!("({})", columns.join(", "))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Self::Ascending => "ASC",
            Self::Descending => "DESC",
        }
    }
}

/// A materialized view. Of its columns' types, [`parse`] knows nothing: they are the base table's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    pub base: String,
    /// The condition, in single spaces.
    pub condition: String,
    pub shape: Shape,
}

/// Reads the definition out of one statement of `source`.
pub(super) fn parse(source: &str, statement: &[Token<'_>]) -> Result<Definition, Error> {
    let cql = lexer::text(source, statement).to_owned();
    let mut reader = Reader { source, rest: statement };
    reader.expect("create")?;
    let (keyspace, object) = if reader.take("keyspace") {
        reader.if_not_exists()?;
        let name = reader.name()?;
        reader.replication()?;
        (name, Object::Keyspace)
    } else if reader.take("table") {
        reader.if_not_exists()?;
        let (keyspace, name) = reader.qualified_name()?;
        (keyspace, Object::Table(name, reader.table()?))
    } else {
        reader.expect("materialized")?;
        reader.expect("view")?;
        reader.if_not_exists()?;
        let (keyspace, name) = reader.qualified_name()?;
        (keyspace, Object::View(name, reader.view()?))
    };
    match reader.rest {
        [] => Ok(Definition { keyspace, object, cql }),
        _ => Err(reader.unexpected("the end of the statement")),
    }
}

struct Reader<'a, 'b> {
    source: &'a str,
    rest: &'b [Token<'a>],
}

impl<'a> Reader<'a, '_> {
    fn next(&mut self, wanted: &str) -> Result<Token<'a>, Error> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| self.unexpected(wanted))?;
        self.rest = rest;
        Ok(*first)
    }

    fn peek(&self, text: &str) -> bool {
        self.rest.first().is_some_and(|token| token.is(text))
    }

    fn take(&mut self, text: &str) -> bool {
        let is_next = self.peek(text);
        if is_next {
            self.rest = &self.rest[1..];
        }
        is_next
    }

    fn expect(&mut self, text: &str) -> Result<(), Error> {
        if self.take(text) { Ok(()) } else { Err(self.unexpected(text)) }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let (at, found) = match self.rest.first() {
            Some(token) => (token.start, token.text),
            None => (self.source.len(), "the end"),
        };
        Error::Source {
            line: self.source[..at].matches('\n').count() + 1,
            message: format!("{wanted} is expected here and not {found}"),
        }
    }

    fn name(&mut self) -> Result<String, Error> {
        let name = self.rest.first().and_then(Token::name).ok_or_else(|| self.unexpected("a name"))?;
        self.rest = &self.rest[1..];
        Ok(name)
    }

    fn value(&mut self) -> Result<String, Error> {
        let value = self.rest.first().and_then(Token::value).ok_or_else(|| self.unexpected("a value"))?;
        self.rest = &self.rest[1..];
        Ok(value)
    }

    fn qualified_name(&mut self) -> Result<(String, String), Error> {
        let keyspace = self.name()?;
        self.expect(".")?;
        Ok((keyspace, self.name()?))
    }

    /// Required, so that applying the schema twice is no error.
    fn if_not_exists(&mut self) -> Result<(), Error> {
        ["if", "not", "exists"].into_iter().try_for_each(|word| self.expect(word))
    }

    fn replication(&mut self) -> Result<(), Error> {
        self.expect("with")?;
        self.expect("replication")?;
        self.expect("=")?;
        self.map().map(drop)
    }

    /// `(name type, …, PRIMARY KEY (…)) WITH …`
    fn table(&mut self) -> Result<Shape, Error> {
        let mut shape = Shape::default();
        self.expect("(")?;
        loop {
            if self.take("primary") {
                self.expect("key")?;
                self.primary_key(&mut shape)?;
            } else {
                let name = self.name()?;
                shape.columns.insert(name, self.column_type()?);
            }
            if !self.take(",") {
                break;
            }
        }
        self.expect(")")?;
        self.options(&mut shape)?;
        Ok(shape)
    }

    /// `AS SELECT columns FROM base WHERE condition PRIMARY KEY (…) WITH …`
    fn view(&mut self) -> Result<View, Error> {
        let mut shape = Shape::default();
        self.expect("as")?;
        self.expect("select")?;
        loop {
            shape.columns.insert(self.name()?, String::new());
            if !self.take(",") {
                break;
            }
        }
        self.expect("from")?;
        let (_, base) = self.qualified_name()?;
        self.expect("where")?;
        let mut condition = Vec::new();
        while !self.peek("primary") {
            condition.push(self.next("PRIMARY KEY")?.text);
        }
        self.expect("primary")?;
        self.expect("key")?;
        self.primary_key(&mut shape)?;
        self.options(&mut shape)?;
        Ok(View { base, condition: condition.join(" "), shape })
    }

    /// Up to the comma or bracket after the type, without spaces but one after each comma, as the system tables do.
    fn column_type(&mut self) -> Result<String, Error> {
        let mut depth = 0;
        let mut text = String::new();
        while let Some(token) = self.rest.first() {
            match token.text {
                "<" => depth += 1,
                ">" => depth -= 1,
                "," | ")" if depth == 0 => break,
                _ => {}
            }
            text.push_str(&token.text.to_ascii_lowercase());
            if token.is(",") {
                text.push(' ');
            }
            self.rest = &self.rest[1..];
        }
        if text.is_empty() { Err(self.unexpected("a type")) } else { Ok(text) }
    }

    /// `((a, b), c)` or `(a, b, c)`
    fn primary_key(&mut self, shape: &mut Shape) -> Result<(), Error> {
        self.expect("(")?;
        if self.take("(") {
            loop {
                shape.partition_key.push(self.name()?);
                if !self.take(",") {
                    break;
                }
            }
            self.expect(")")?;
        } else {
            shape.partition_key.push(self.name()?);
        }
        while self.take(",") {
            shape.clustering.push((self.name()?, Order::Ascending));
        }
        self.expect(")")
    }

    fn options(&mut self, shape: &mut Shape) -> Result<(), Error> {
        if !self.take("with") {
            return Ok(());
        }
        loop {
            if self.take("clustering") {
                self.clustering_order(shape)?;
            } else {
                let option = self.name()?;
                self.expect("=")?;
                match option.as_str() {
                    "compaction" => shape.compaction = self.map()?,
                    "default_time_to_live" => shape.ttl = Some(self.value()?),
                    // Tuning that an operator may change on the live table without being asked about it.
                    _ if self.peek("{") => drop(self.map()?),
                    _ => drop(self.value()?),
                }
            }
            if !self.take("and") {
                return Ok(());
            }
        }
    }

    fn clustering_order(&mut self, shape: &mut Shape) -> Result<(), Error> {
        self.expect("order")?;
        self.expect("by")?;
        self.expect("(")?;
        loop {
            let name = self.name()?;
            let order = if self.take("desc") {
                Order::Descending
            } else {
                self.take("asc");
                Order::Ascending
            };
            match shape.clustering.iter_mut().find(|(column, _)| *column == name) {
                Some(column) => column.1 = order,
                None => return Err(self.unexpected("the order of clustering columns alone")),
            }
            if !self.take(",") {
                return self.expect(")");
            }
        }
    }

    fn map(&mut self) -> Result<BTreeMap<String, String>, Error> {
        let mut map = BTreeMap::new();
        self.expect("{")?;
        while self.rest.first().is_some_and(|token| token.kind == Kind::Text) {
            let key = self.value()?;
            self.expect(":")?;
            map.insert(key, self.value()?);
            if !self.take(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cql: &str) -> Result<Definition, Error> {
        parse(cql, &lexer::tokens(cql)?)
    }

    #[test]
    fn a_table_gives_its_columns_keys_order_and_options() {
        let definition = read(
            "CREATE TABLE IF NOT EXISTS ks.T (a text, B uuid, c timestamp, m frozen < map<text,float> >,
             PRIMARY KEY ((a, B), c, m)) WITH CLUSTERING ORDER BY (c DESC, m ASC) AND comment = 'with; all'
             AND compression = {'class': 'X', 'n': 4} AND default_time_to_live = 60 AND compaction = {'class': 'Y'}",
        )
        .unwrap();
        assert_eq!(definition.qualified_name(), "ks.t");
        let Object::Table(_, shape) = definition.object else { panic!("no table") };
        assert_eq!(shape.columns["m"], "frozen<map<text, float>>");
        assert_eq!(shape.columns["b"], "uuid");
        assert_eq!(shape.primary_key(), "((a, b), c, m)");
        assert_eq!(shape.clustering_order(), "(c DESC, m ASC)");
        assert_eq!(shape.ttl.as_deref(), Some("60"));
        assert_eq!(shape.compaction, [("class".to_owned(), "Y".to_owned())].into());
    }

    #[test]
    fn a_view_gives_its_base_condition_and_keys() {
        let definition = read(
            "CREATE MATERIALIZED VIEW IF NOT EXISTS ks.v AS SELECT a, b FROM ks.t
             WHERE a IS NOT NULL\n AND b IS NOT NULL PRIMARY KEY (b, a)",
        )
        .unwrap();
        let Object::View(name, view) = definition.object else { panic!("no view") };
        assert_eq!((name.as_str(), view.base.as_str()), ("v", "t"));
        assert_eq!(view.condition, "a IS NOT NULL AND b IS NOT NULL");
        assert_eq!(view.shape.primary_key(), "((b), a)");
        assert_eq!(view.shape.columns.into_keys().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_could_not_be_applied_twice_or_would_drop_is_refused() {
        for cql in [
            "CREATE TABLE ks.t (a text, PRIMARY KEY (a))",
            "DROP TABLE IF EXISTS ks.t",
            "CREATE TABLE IF NOT EXISTS t (a text, PRIMARY KEY (a))",
            "CREATE TABLE IF NOT EXISTS ks.t (a text, PRIMARY KEY (a)) WITH comment = 'x' garbage",
            "CREATE TABLE IF NOT EXISTS ks.t (a text, PRIMARY KEY (a",
        ] {
            assert!(matches!(read(cql), Err(Error::Source { line: 1, .. })), "{cql}");
        }
    }
}
