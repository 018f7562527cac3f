use super::{
    Definition, Input, LoadError, Lookup, RouteError,
    index::Index,
    lookup::{self, Client, Lookups},
};
use crate::credential::{CredentialName, Credentials};
use futures_util::future::join_all;
use http::{Request, Response, Uri};
use http_body::Body;
use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};
use tower_service::Service;
use tower_webhook::{BoxError, body::BufferedBody, target::TargetRules};

/// The most definitions.
const MOST_DEFINITIONS: usize = 10_000;

/// The longest file, in bytes.
const LONGEST_FILE: u64 = 1 << 20;

/// The registry of definitions. Clones share it.
///
/// Definitions are replaced as a whole: an event is matched against those from before or those from after, never a
/// mixture, and what is being rendered keeps the version that it began with.
///
/// # Examples
///
/// ```
/// use tower_webhook_cognigy::routing::{Definition, Input, Routes};
///
/// # tokio_test(async {
/// let all = Definition::builder("everything", "https://example.com/events")
///     .template(r#"{"id": {{ id }}, "from": "the router"}"#)
///     .build()?;
/// let routes = Routes::builder().build([all])?;
///
/// let event = Input::trigger(r#"{"id": "evt \"1\""}"#)?;
/// for definition in routes.matching(&event) {
///     let req = routes.render(&definition, &event).await?;
///     assert_eq!(req.body().as_bytes(), r#"{"id": "evt \"1\"", "from": "the router"}"#);
/// }
/// # Ok(())
/// # });
/// # fn tokio_test(work: impl Future<Output = Result<(), tower_webhook::BoxError>>) {
/// #     tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work).unwrap();
/// # }
/// ```
#[derive(Clone)]
pub struct Routes(Arc<Shared>);

struct Shared {
    table: RwLock<Arc<Table>>,
    rules: Rules,
    directory: Option<PathBuf>,
    /// Held while definitions are read and replaced, so that the last who begins is the last who ends.
    replacing: Mutex<()>,
}

/// What definitions are checked against.
struct Rules {
    targets: TargetRules,
    credentials: Option<Credentials>,
    lookups: Arc<Lookups>,
}

#[derive(Default)]
struct Table {
    definitions: Vec<Arc<Definition>>,
    by_name: HashMap<Arc<str>, usize>,
    index: Index,
}

impl Routes {
    /// Begins a registry: targets at public addresses over `https`, no lookups, no credentials.
    pub fn builder() -> RoutesBuilder {
        RoutesBuilder {
            targets: TargetRules::new(),
            credentials: None,
            named: HashMap::new(),
            client: None,
        }
    }

    /// The definitions whose conditions all hold for this event, in the order of the files or of the list.
    ///
    /// Looks only at definitions that ask for a signal which the event has.
    pub fn matching(&self, input: &Input) -> Vec<Arc<Definition>> {
        let table = self.table();
        let positions = table.index.matching(&table.definitions, input);
        let found = positions
            .into_iter()
            .filter_map(|at| table.definitions.get(at));
        found.cloned().collect()
    }

    /// The definition of this name.
    pub fn get(&self, name: &str) -> Option<Arc<Definition>> {
        let table = self.table();
        table.definitions.get(*table.by_name.get(name)?).cloned()
    }

    /// All definitions.
    pub fn definitions(&self) -> Vec<Arc<Definition>> {
        self.table().definitions.clone()
    }

    /// Makes the request of a definition for an event: looks up what it needs, all at the same time, and renders its
    /// template.
    ///
    /// Conditions are not asked: an event that does not match is rendered too. The request carries the
    /// [`CredentialName`] of the definition, if it has one, as an extension. Its timeout is the caller's to apply
    /// ([`Definition::timeout`]), as [`Router`](super::Router) does.
    ///
    /// # Errors
    ///
    /// [`RouteError`] says what failed, without data of the event.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops its lookups, unless others wait for the same.
    pub async fn render(
        &self,
        definition: &Definition,
        input: &Input,
    ) -> Result<Request<BufferedBody>, RouteError> {
        let failed = |kind| RouteError::new(Arc::clone(definition.shared_name()), kind);
        let lookups = &self.0.rules.lookups;
        let asked = definition.lookups().iter().map(|(name, rule)| async move {
            let value = lookups.find(name, rule, input).await?;
            Ok(value.map(|value| (Arc::clone(name), value)))
        });
        let found: Result<Vec<_>, _> = join_all(asked).await.into_iter().collect();
        let found = found.map_err(failed)?.into_iter().flatten().collect();
        definition.request(input, found).map_err(failed)
    }

    /// Replaces all definitions.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if one is not permitted or two have one name. Then nothing is replaced.
    pub fn replace(
        &self,
        definitions: impl IntoIterator<Item = Definition>,
    ) -> Result<(), LoadError> {
        let _turn = self
            .0
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let definitions = definitions.into_iter().map(|definition| (None, definition));
        self.put(Table::new(definitions.collect(), &self.0.rules)?);
        Ok(())
    }

    /// Reads the directory again, and replaces all definitions. Reads files, and so blocks: from async code call it in
    /// `spawn_blocking`. Returns how many there are.
    ///
    /// # Errors
    ///
    /// [`LoadError`] names the first file at fault, or says that the definitions are not from a directory. Then
    /// nothing is replaced.
    pub fn reload(&self) -> Result<usize, LoadError> {
        let _turn = self
            .0
            .replacing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(directory) = &self.0.directory else {
            return Err(LoadError::new(
                None,
                "the definitions are not from a directory",
            ));
        };
        let table = Table::new(read(directory)?, &self.0.rules)?;
        let count = table.definitions.len();
        self.put(table);
        Ok(count)
    }

    fn put(&self, table: Table) {
        *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.0.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routes")
            .field("definitions", &self.table().definitions.len())
            .field("directory", &self.0.directory)
            .finish_non_exhaustive()
    }
}

impl Table {
    fn new(read: Vec<(Option<PathBuf>, Definition)>, rules: &Rules) -> Result<Self, LoadError> {
        if read.len() > MOST_DEFINITIONS {
            return Err(too_many());
        }
        let mut table = Self::default();
        for (file, definition) in read {
            let name = Arc::clone(definition.shared_name());
            let checked = rules.check(&definition).and_then(|()| {
                let before = table.by_name.insert(name, table.definitions.len());
                let problem = "another definition has this name";
                before.map_or(Ok(()), |_| {
                    Err(LoadError::new(Some("name".into()), problem))
                })
            });
            checked.map_err(|error| match file {
                Some(file) => error.at(file),
                None => error,
            })?;
            table.definitions.push(Arc::new(definition));
        }
        table.index = Index::new(&table.definitions);
        Ok(table)
    }
}

impl Rules {
    fn check(&self, definition: &Definition) -> Result<(), LoadError> {
        let permitted = |uri: &Uri, field: &str| {
            let checked = self.targets.check(uri);
            checked.map_err(|error| LoadError::new(Some(field.to_owned()), error.to_string()))
        };
        let known = |name: Option<&CredentialName>, target: &Uri, field: &str| {
            let checked = match (&self.credentials, name) {
                (Some(credentials), Some(name)) => credentials.check(name, target),
                _ => Ok(()),
            };
            checked.map_err(|problem| LoadError::new(Some(field.to_owned()), problem))
        };
        permitted(definition.target_url(), "target_url")?;
        let target = definition.target_url();
        known(definition.credential(), target, "credential")?;
        for (name, rule) in definition.lookups() {
            let field = |field: &str| format!("lookups.{name}.{field}");
            if let Some(source) = &rule.source
                && !self.lookups.named.contains_key(source)
            {
                let problem = format!("there is no lookup `{source}`");
                return Err(LoadError::new(Some(field("source")), problem));
            }
            if let Some(uri) = rule.url.as_deref().and_then(lookup::example) {
                permitted(&uri, &field("url"))?;
                let named = rule.credential.as_deref().map(CredentialName::new);
                let named = named.transpose().map_err(|error| {
                    LoadError::new(Some(field("credential")), error.to_string())
                })?;
                known(named.as_ref(), &uri, &field("credential"))?;
                if self.lookups.client.is_none() {
                    let problem = "there is no client for lookups over HTTP";
                    return Err(LoadError::new(Some(field("url")), problem));
                }
            }
        }
        Ok(())
    }
}

fn too_many() -> LoadError {
    let problem = format!("there are more than {MOST_DEFINITIONS} definitions");
    LoadError::new(None, problem)
}

/// The definitions of a directory, in the order of the files' names, or the one of a file.
fn read(path: &Path) -> Result<Vec<(Option<PathBuf>, Definition)>, LoadError> {
    let one = |file: PathBuf| {
        let json =
            read_file(&file).map_err(|error| LoadError::io("the file cannot be read", error));
        let beside = file.parent().unwrap_or_else(|| Path::new(""));
        let definition =
            json.and_then(|json| Definition::read(&json, |name| template(beside, name)));
        match definition {
            Ok(definition) => Ok((Some(file), definition)),
            Err(error) => Err(error.at(file)),
        }
    };
    if path.is_file() {
        return Ok(vec![one(path.to_owned())?]);
    }
    files(path)?.into_iter().map(one).collect()
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unreadable =
        |error| LoadError::io("the directory cannot be read", error).at(directory.to_owned());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    // Before any is read.
    if files.len() > MOST_DEFINITIONS {
        return Err(too_many().at(directory.to_owned()));
    }
    files.sort();
    Ok(files)
}

/// The template in a file beside the definition, and nowhere else.
fn template(directory: &Path, name: &str) -> Result<String, String> {
    let mut parts = Path::new(name).components();
    let only = (parts.next(), parts.next());
    let (Some(std::path::Component::Normal(_)), None) = only else {
        return Err("must be the name of a file beside the definition".into());
    };
    let bytes = read_file(&directory.join(name))
        .map_err(|error| format!("`{name}` cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| format!("`{name}` is not UTF-8"))
}

/// Reads a file, and no device or pipe that does not end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: a pipe would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    // Whatever length the system says: a file may grow, and some have none.
    let mut bytes = Vec::new();
    let file = fs::File::open(path)?;
    file.take(LONGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(io::Error::other("it is longer than 1 MiB"));
    }
    Ok(bytes)
}

/// Settings of [`Routes`].
#[must_use]
pub struct RoutesBuilder {
    targets: TargetRules,
    credentials: Option<Credentials>,
    named: HashMap<String, Arc<dyn Lookup>>,
    client: Option<Client>,
}

impl RoutesBuilder {
    /// Sets which targets are permitted, of definitions and of lookups. Default: `https` and public addresses. Names are
    /// resolved by the client: give its connector [`TargetRules::resolver`].
    pub const fn targets(mut self, rules: TargetRules) -> Self {
        self.targets = rules;
        self
    }

    /// Sets the credentials that definitions may name: one that names another is refused, and so is one whose target is
    /// at another origin than the credential. Default: names are not checked. It is the client that attaches them: give it
    /// the same layer, inside of what repeats requests.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Adds a lookup under the name that definitions call their `source`. Default: none.
    pub fn lookup(mut self, name: impl Into<String>, lookup: impl Lookup) -> Self {
        self.named.insert(name.into(), Arc::new(lookup));
        self
    }

    /// Sets the client for lookups with a `url`. Default: none, and definitions with such lookups are refused. It must
    /// not follow redirects. Each request carries the [`CredentialName`] of the lookup, if it has one, as an extension.
    pub fn http<S, B>(mut self, client: S) -> Self
    where
        S: Service<Request<BufferedBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError> + Send,
    {
        self.client = Some(lookup::client(client));
        self
    }

    /// Makes a registry of these definitions.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if one is not permitted or two have one name.
    pub fn build(
        self,
        definitions: impl IntoIterator<Item = Definition>,
    ) -> Result<Routes, LoadError> {
        let routes = self.finish(None);
        routes.replace(definitions)?;
        Ok(routes)
    }

    /// Makes a registry of the definitions in a directory: each file `*.json` is one, except hidden ones. A template may be
    /// in a file of its own (`payload_template_file`), whose name does not end with `.json`. Files are 1 MiB long at
    /// most. A file instead of a directory is the only definition. Reads files, and so blocks.
    ///
    /// # Errors
    ///
    /// [`LoadError`] names the first file at fault, the field in it, and what is wrong.
    pub fn load(self, directory: impl Into<PathBuf>) -> Result<Routes, LoadError> {
        let routes = self.finish(Some(directory.into()));
        routes.reload()?;
        Ok(routes)
    }

    fn finish(self, directory: Option<PathBuf>) -> Routes {
        Routes(Arc::new(Shared {
            table: RwLock::default(),
            rules: Rules {
                targets: self.targets,
                credentials: self.credentials,
                lookups: Arc::new(Lookups::new(self.named, self.client)),
            },
            directory,
            replacing: Mutex::default(),
        }))
    }
}

impl fmt::Debug for RoutesBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutesBuilder")
            .field("targets", &self.targets)
            .field("credentials", &self.credentials)
            .field("lookups", &self.named.keys())
            .finish_non_exhaustive()
    }
}
