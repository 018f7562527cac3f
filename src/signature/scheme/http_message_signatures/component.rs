//! The parts of a message that a signature covers, and their values (RFC 9421 §2).

use super::{dictionary::Item, malformed};
use crate::{
    InvalidConfig, percent,
    signature::{Defect, Head, SignatureError},
};
use http::{HeaderMap, HeaderName, Method, Uri, header::HOST, uri::Authority};
use sfv::BareItemFromInput;
use std::{borrow::Cow, cell::OnceCell, collections::HashMap, fmt};

/// The longest text that is signed, in bytes.
const MAX_BASE: usize = 1 << 15;

/// The longest query in which a parameter is looked for.
const MAX_QUERY: usize = 4096;

/// A part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Component {
    Authority,
    Field(HeaderName),
    Method,
    Path,
    Query,
    QueryParam(String),
    RequestTarget,
    Scheme,
    TargetUri,
}

const METHOD: u8 = 1;
const SCHEME: u8 = 2;
const AUTHORITY: u8 = 4;
const PATH: u8 = 8;
const QUERY: u8 = 16;

impl Component {
    /// The component of this name, without parameters.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "@authority" => Self::Authority,
            "@method" => Self::Method,
            "@path" => Self::Path,
            "@query" => Self::Query,
            "@request-target" => Self::RequestTarget,
            "@scheme" => Self::Scheme,
            "@target-uri" => Self::TargetUri,
            _ if name.bytes().any(|byte| byte.is_ascii_uppercase()) => return None,
            _ => Self::Field(HeaderName::try_from(name).ok()?),
        })
    }

    /// The component that a signature says it covers. With a parameter that is not known here (`;sf`, `;key`, `;bs`,
    /// `;tr`, `;req`) it is another one, of which the value is not known.
    pub(super) fn of(item: &Item<'_>) -> Result<Self, Defect> {
        let BareItemFromInput::String(name) = &item.value else {
            return Err(Defect::Syntax);
        };
        match (name.as_str(), &item.parameters[..]) {
            (name, []) => Self::named(name),
            ("@query-param", [(key, BareItemFromInput::String(name))])
                if key.as_str() == "name" =>
            {
                Some(Self::QueryParam(name.as_str().to_owned()))
            }
            _ => None,
        }
        .ok_or(Defect::Format)
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Authority => "@authority",
            Self::Field(name) => name.as_str(),
            Self::Method => "@method",
            Self::Path => "@path",
            Self::Query => "@query",
            Self::QueryParam(_) => "@query-param",
            Self::RequestTarget => "@request-target",
            Self::Scheme => "@scheme",
            Self::TargetUri => "@target-uri",
        }
    }

    /// Which parts of the request line and of its URI it has whole.
    const fn parts(&self) -> u8 {
        match self {
            Self::Authority => AUTHORITY,
            Self::Field(_) | Self::QueryParam(_) => 0,
            Self::Method => METHOD,
            Self::Path => PATH,
            Self::Query => QUERY,
            Self::RequestTarget => PATH | QUERY,
            Self::Scheme => SCHEME,
            Self::TargetUri => SCHEME | AUTHORITY | PATH | QUERY,
        }
    }

    /// Whether these cover it. `@target-uri` need not be covered with its scheme, which no server sees.
    pub(super) fn is_covered_by(&self, covered: &[Self]) -> bool {
        let needed = match self {
            Self::TargetUri => AUTHORITY | PATH | QUERY,
            other => other.parts(),
        };
        let parts = covered.iter().fold(0, |parts, one| parts | one.parts());
        covered.contains(self) || (needed != 0 && parts & needed == needed)
    }
}

/// Its identifier, as a line of what is signed begins with it.
impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // It has no quotation mark: it is equal to one that was encoded here.
            Self::QueryParam(name) => write!(f, "\"@query-param\";name=\"{name}\""),
            other => write!(f, "\"{}\"", other.name()),
        }
    }
}

/// The scheme and the host of the URLs of a server, normalised.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    scheme: &'static str,
    authority: String,
}

impl Origin {
    pub(super) fn parse(text: &str) -> Result<Self, InvalidConfig> {
        let invalid = || {
            let problem =
                "must be `https://` or `http://` and a host, such as `https://hooks.example.com`";
            InvalidConfig::new("origin", problem)
        };
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let scheme = known_scheme(&uri).ok_or_else(invalid)?;
        let authority = uri.authority().and_then(|one| normalised(scheme, one));
        let has_path = text.trim_end_matches('/').matches('/').count() > 2 || uri.query().is_some();
        match authority {
            Some(authority) if !has_path => Ok(Self { scheme, authority }),
            _ => Err(invalid()),
        }
    }
}

fn known_scheme(uri: &Uri) -> Option<&'static str> {
    match uri.scheme_str()? {
        "http" => Some("http"),
        "https" => Some("https"),
        _ => None,
    }
}

/// In lower case, and without the port of the scheme.
fn normalised(scheme: &str, authority: &Authority) -> Option<String> {
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host)? {
        "" | ":" => None,
        port => Some(port.strip_prefix(':')?.parse::<u16>().ok()?),
    };
    let host = host.to_ascii_lowercase();
    match (scheme, port) {
        _ if host.is_empty() => None,
        ("https", Some(443)) | ("http", Some(80)) | (_, None) => Some(host),
        (_, Some(port)) => Some(format!("{host}:{port}")),
    }
}

/// A request whose components have values.
pub(super) struct Subject<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    scheme: &'static str,
    authority: Result<String, SignatureError>,
    /// The parameters of the query by their names, if they are asked for: a stranger may ask for many of many. One that is
    /// there twice has no value.
    params: OnceCell<HashMap<String, Option<&'a str>>>,
}

impl<'a> Subject<'a> {
    /// One that was received. The host is that of the URI or, if a URI has none, of the header `Host`. Two that differ
    /// are refused: whoever reads the other one inside would read what is not signed.
    pub(super) fn received(head: &Head<'a>, origin: Option<&Origin>) -> Self {
        let (uri, headers) = (head.original_uri(), head.headers());
        let choose = |of_uri: Option<String>, of_host: Option<String>| match (of_uri, of_host) {
            (Some(one), Some(other)) if one != other => {
                Err(SignatureError::malformed(&HOST, Defect::Repeated))
            }
            (one, other) => Ok(one.or(other)),
        };
        Self::of(head.method(), uri, headers, origin, choose)
    }

    /// One that is to be sent. `Host` is what the receiver will see, if it is set already.
    pub(super) fn sent(
        (method, uri): (&'a Method, &'a Uri),
        headers: &'a HeaderMap,
        origin: Option<&Origin>,
    ) -> Self {
        Self::of(method, uri, headers, origin, |of_uri, of_host| {
            Ok(of_host.or(of_uri))
        })
    }

    fn of(
        method: &'a Method,
        uri: &'a Uri,
        headers: &'a HeaderMap,
        origin: Option<&Origin>,
        choose: impl FnOnce(Option<String>, Option<String>) -> Result<Option<String>, SignatureError>,
    ) -> Self {
        let scheme = origin.map_or_else(
            || known_scheme(uri).unwrap_or("https"),
            |origin| origin.scheme,
        );
        let authority = origin.map(|origin| Ok(origin.authority.clone()));
        let authority = authority.unwrap_or_else(|| {
            let [of_uri, of_host] = hosts(scheme, uri, headers)?;
            choose(of_uri, of_host)?.ok_or_else(|| SignatureError::missing(&HOST))
        });
        Self {
            method,
            uri,
            headers,
            scheme,
            authority,
            params: OnceCell::new(),
        }
    }

    /// What is signed (RFC 9421 §2.5): the components with their values, and the parameters of the signature.
    pub(super) fn base(
        &self,
        components: &[Component],
        parameters: &str,
    ) -> Result<String, SignatureError> {
        let mut base = String::with_capacity(512);
        for component in components {
            let value = self.value(component)?;
            if base.len() + value.len() > MAX_BASE {
                return Err(malformed(Defect::TooLong));
            }
            base.push_str(&component.to_string());
            base.push_str(": ");
            base.push_str(&value);
            base.push('\n');
        }
        base.push_str("\"@signature-params\": ");
        base.push_str(parameters);
        Ok(base)
    }

    fn value(&self, component: &Component) -> Result<Cow<'_, str>, SignatureError> {
        let value = match component {
            Component::Authority => Cow::Borrowed(self.authority()?),
            Component::Field(name) => return self.field(name),
            Component::Method => self.method.as_str().into(),
            Component::Path => self.path()?.into(),
            Component::Query => format!("?{}", self.uri.query().unwrap_or_default()).into(),
            Component::QueryParam(name) => self.query_param(name).ok_or_else(unknown)?.into(),
            Component::RequestTarget => self.target("", "")?.into(),
            Component::Scheme => self.scheme.into(),
            Component::TargetUri => {
                let authority = self.authority()?;
                self.target(&format!("{}://", self.scheme), authority)?
                    .into()
            }
        };
        // The text that is signed is ASCII, in lines.
        if value.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(value)
        } else {
            Err(unknown())
        }
    }

    fn authority(&self) -> Result<&str, SignatureError> {
        match &self.authority {
            Ok(authority) => Ok(authority),
            Err(error) => Err(error.clone()),
        }
    }

    fn path(&self) -> Result<&str, SignatureError> {
        // Not of `*` and of the target of `CONNECT`.
        let path = self.uri.path();
        if path.starts_with('/') {
            Ok(path)
        } else {
            Err(unknown())
        }
    }

    /// The path and the query, if there is one, behind a scheme and a host.
    fn target(&self, scheme: &str, authority: &str) -> Result<String, SignatureError> {
        let path = self.path()?;
        Ok(match self.uri.query() {
            Some(query) => format!("{scheme}{authority}{path}?{query}"),
            None => format!("{scheme}{authority}{path}"),
        })
    }

    /// The lines of a field, without the spaces around each.
    fn field(&self, name: &HeaderName) -> Result<Cow<'_, str>, SignatureError> {
        let mut joined: Option<Cow<'_, str>> = None;
        for line in self.headers.get_all(name) {
            let line = line
                .to_str()
                .map_err(|_| SignatureError::malformed(name, Defect::Format))?
                .trim_matches([' ', '\t']);
            match &mut joined {
                None => joined = Some(line.into()),
                Some(text) if text.len() + line.len() > MAX_BASE => {
                    return Err(SignatureError::malformed(name, Defect::TooLong));
                }
                Some(text) => {
                    let text = text.to_mut();
                    text.push_str(", ");
                    text.push_str(line);
                }
            }
        }
        joined.ok_or_else(|| SignatureError::missing(name))
    }

    /// The value of the one parameter of the query with this name, both encoded as RFC 9421 §2.2.8 has it.
    fn query_param(&self, name: &str) -> Option<String> {
        let params = self.params.get_or_init(|| {
            let query = self.uri.query().filter(|query| query.len() <= MAX_QUERY);
            let mut params = HashMap::new();
            let pairs = query.unwrap_or_default().split('&');
            for pair in pairs.filter(|pair| !pair.is_empty()) {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                params
                    .entry(encoded(name))
                    .and_modify(|value| *value = None)
                    .or_insert(Some(value));
            }
            params
        });
        params.get(name)?.map(encoded)
    }
}

/// The host of the URI, and that of the header.
fn hosts(
    scheme: &str,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<[Option<String>; 2], SignatureError> {
    let malformed = |what| SignatureError::malformed(&HOST, what);
    let of_uri = uri
        .authority()
        .map(|one| normalised(scheme, one).ok_or_else(|| malformed(Defect::Syntax)));
    let mut values = headers.get_all(HOST).iter();
    let of_host = values.next().map(|value| {
        let authority = Authority::try_from(value.as_bytes()).ok();
        authority
            .and_then(|one| normalised(scheme, &one))
            .ok_or_else(|| malformed(Defect::Syntax))
    });
    match values.next() {
        Some(_) => Err(malformed(Defect::Repeated)),
        None => Ok([of_uri.transpose()?, of_host.transpose()?]),
    }
}

/// A component without a value, or with more than one.
fn unknown() -> SignatureError {
    malformed(Defect::Format)
}

/// Decodes a text of a form, and encodes it in the one way that is signed.
fn encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._".contains(&byte);
    let mut out = String::with_capacity(text.len());
    percent::push_encoded(
        &mut out,
        &percent::decoded(&text.replace('+', " ")),
        is_plain,
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallClock;
    use http::Request;

    fn values(request: &Request<()>, origin: Option<&str>, components: &[&str]) -> Vec<String> {
        let clock = WallClock::system();
        let origin = origin.map(|origin| Origin::parse(origin).unwrap());
        let subject = Subject::received(&Head::of(request, &clock), origin.as_ref());
        let value = |name: &&str| {
            let component = match name.strip_prefix("@query-param ") {
                Some(name) => Component::QueryParam(name.to_owned()),
                None => Component::named(name).unwrap(),
            };
            match subject.value(&component) {
                Ok(value) => value.into_owned(),
                Err(error) => format!("error: {}", error.as_str()),
            }
        };
        components.iter().map(value).collect()
    }

    fn request(target: &str, host: &str) -> Request<()> {
        let mut request = Request::post(target);
        if !host.is_empty() {
            request = request.header(HOST, host);
        }
        request.body(()).unwrap()
    }

    /// RFC 9421 §2.2.1 to §2.2.7.
    #[test]
    fn derived_components_of_the_rfc() {
        let request = request("/path?param=value", "www.example.com");
        let found = values(
            &request,
            None,
            &[
                "@method",
                "@target-uri",
                "@authority",
                "@scheme",
                "@request-target",
                "@path",
                "@query",
            ],
        );
        assert_eq!(
            found,
            [
                "POST",
                "https://www.example.com/path?param=value",
                "www.example.com",
                "https",
                "/path?param=value",
                "/path",
                "?param=value",
            ]
        );
        let query = |target| values(&super::tests::request(target, "a"), None, &["@query"]);
        let many = "/path?param=value&foo=bar&baz=bat%2Dman";
        assert_eq!(query(many), ["?param=value&foo=bar&baz=bat%2Dman"]);
        assert_eq!(query("/path?queryString"), ["?queryString"]);
        assert_eq!(query("/path"), ["?"]);
    }

    /// RFC 9421 §2.2.8.
    #[test]
    fn query_parameters_of_the_rfc() {
        let target = "/parameters?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something&qux=&two=1&two=2&&=x&none";
        let found = values(
            &request(target, "www.example.com"),
            None,
            &[
                "@query-param var",
                "@query-param bar",
                "@query-param fa%C3%A7ade%22%3A%20",
                "@query-param qux",
                "@query-param ",
                "@query-param none",
                "@query-param two",
                "@query-param three",
                // Not the one way in which it is written.
                "@query-param fa\u{e7}ade\": ",
                "@query-param v%61r",
            ],
        );
        assert_eq!(
            found,
            [
                "this%20is%20a%20big%0Amultiline%20value",
                "with%20plus%20whitespace",
                "something",
                "",
                "x",
                "",
                "error: malformed",
                "error: malformed",
                "error: malformed",
                "error: malformed",
            ]
        );
    }

    /// RFC 9421 §2.1.
    #[test]
    fn fields_of_the_rfc() {
        let request = Request::get("/")
            .header("host", "www.example.com")
            .header("x-ows-header", "  Leading and trailing whitespace.\t ")
            .header("cache-control", "max-age=60")
            .header("cache-control", "   must-revalidate")
            .header("example-dict", " a=1,    b=2;x=1;y=2,   c=(a   b   c)")
            .header("x-empty-header", "")
            .header("x-odd", http::HeaderValue::from_bytes(b"caf\xe9").unwrap())
            .body(())
            .unwrap();
        let names = [
            "host",
            "x-ows-header",
            "cache-control",
            "example-dict",
            "x-empty-header",
            "x-odd",
            "x-none",
        ];
        assert_eq!(
            values(&request, None, &names),
            [
                "www.example.com",
                "Leading and trailing whitespace.",
                "max-age=60, must-revalidate",
                "a=1,    b=2;x=1;y=2,   c=(a   b   c)",
                "",
                "error: malformed",
                "error: missing",
            ]
        );
    }

    #[test]
    fn hosts_are_normalised_and_two_that_differ_are_refused() {
        for (target, host, expected) in [
            ("/", "EXAMPLE.com", "example.com"),
            ("/", "example.com:443", "example.com"),
            ("/", "example.com:", "example.com"),
            ("/", "example.com:80", "example.com:80"),
            ("/", "[2001:DB8::1]:8443", "[2001:db8::1]:8443"),
            ("http://example.com:80/", "", "example.com"),
            ("http://example.com:443/", "", "example.com:443"),
            ("https://example.com/", "Example.com:443", "example.com"),
            ("https://example.com/", "other.com", "error: malformed"),
            ("/", "example.com:99999", "error: malformed"),
            ("/", "user@example.com", "error: malformed"),
            ("/", "a b", "error: malformed"),
            ("/", "", "error: missing"),
        ] {
            let request = request(target, host);
            assert_eq!(
                values(&request, None, &["@authority"]),
                [expected],
                "{host}"
            );
            let mine = values(&request, Some("http://Public.test:80/"), &["@target-uri"]);
            assert_eq!(mine, ["http://public.test/"], "{host}");
        }
        let mut twice = request("/", "example.com");
        twice
            .headers_mut()
            .append(HOST, "example.com".parse().unwrap());
        assert_eq!(values(&twice, None, &["@authority"]), ["error: malformed"]);
        for bad in [
            "example.com",
            "ftp://example.com",
            "https://example.com/path",
            "https://example.com/?",
            "https://user@example.com",
            "https://",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_has_no_path_has_no_target() {
        let star = Request::options("*").header(HOST, "a").body(()).unwrap();
        for name in ["@path", "@request-target", "@target-uri"] {
            assert_eq!(values(&star, None, &[name]), ["error: malformed"]);
        }
    }

    #[test]
    fn a_text_to_be_signed_is_bounded() {
        let clock = WallClock::system();
        let mut request = request("/", "a");
        let long = "a".repeat(MAX_BASE).parse::<http::HeaderValue>().unwrap();
        request.headers_mut().insert("x-long", long.clone());
        for _ in 0..100 {
            request.headers_mut().append("x-lines", long.clone());
        }
        let subject = Subject::received(&Head::of(&request, &clock), None);
        for name in ["x-long", "x-lines"] {
            let components = [Component::Method, Component::named(name).unwrap()];
            assert!(subject.base(&components, "()").is_err(), "{name}");
        }
    }

    #[test]
    fn the_parts_of_a_target_cover_it() {
        let all = |names: &[&str]| {
            names
                .iter()
                .map(|name| Component::named(name).unwrap())
                .collect::<Vec<_>>()
        };
        for (needed, covered, is_covered) in [
            ("@target-uri", &["@target-uri"][..], true),
            ("@target-uri", &["@authority", "@path", "@query"], true),
            ("@target-uri", &["@authority", "@request-target"], true),
            ("@target-uri", &["@authority", "@path"], false),
            ("@target-uri", &["@path", "@query", "@scheme"], false),
            ("@path", &["@target-uri"], true),
            ("@path", &["@query"], false),
            ("@authority", &["@request-target"], false),
            ("@method", &["@target-uri"], false),
            ("date", &["@target-uri", "@method"], false),
            ("date", &["date"], true),
        ] {
            let needed = Component::named(needed).unwrap();
            assert_eq!(
                needed.is_covered_by(&all(covered)),
                is_covered,
                "{covered:?}"
            );
        }
    }
}
