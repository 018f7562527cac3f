use tower_webhook::InvalidConfig;

/// An installation of the platform.
///
/// | Host | Management API (O) | Endpoints |
/// | --- | --- | --- |
/// | `Trial` | `https://api-trial.cognigy.ai` | `https://endpoint-trial.cognigy.ai` (O) |
/// | `App` | `https://api-app.cognigy.ai` | `https://endpoint-app.cognigy.ai` (I) |
/// | `AppUs` | `https://api-app-us.cognigy.ai` | `https://endpoint-app-us.cognigy.ai` (I) |
/// | `Company("acme")` | `https://api-acme.cognigy.cloud` | `https://endpoint-acme.cognigy.cloud` (I) |
/// | `Cxone("na1")` | `https://cognigy-api-na1.nicecxone.com` | `https://cognigy-endpoint-na1.nicecxone.com` (3) |
/// | `Own { api, endpoint }` | as given | as given |
///
/// ```
/// use tower_webhook_cognigy::platform::Host;
///
/// assert_eq!(Host::Cxone("na1".to_owned()).api()?, "https://cognigy-api-na1.nicecxone.com");
/// assert!(Host::Company("acme.example.com/".to_owned()).api().is_err());
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Host {
    /// The shared installation for trials.
    Trial,
    /// The shared installation in Europe.
    App,
    /// The shared installation in the United States.
    AppUs,
    /// The dedicated installation of a company, by its name in the URL.
    Company(String),
    /// NICE `CXone` Mpower, by its region, such as `na1` and `eu1`.
    Cxone(String),
    /// An installation of one's own, by the URLs of its two services.
    Own {
        /// The management API.
        api: String,
        /// The endpoint service.
        endpoint: String,
    },
}

impl Host {
    /// The URL of the management API, without `/new/v2.0`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `host`, if the name or region is none.
    pub fn api(&self) -> Result<String, InvalidConfig> {
        self.url("api", |own, _| own)
    }

    /// The URL of the endpoint service.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `host`, if the name or region is none.
    pub fn endpoint(&self) -> Result<String, InvalidConfig> {
        self.url("endpoint", |_, own| own)
    }

    /// Whether others share the installation, and its rate limit applies.
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Trial | Self::App | Self::AppUs)
    }

    fn url<'a>(
        &'a self,
        service: &str,
        own: impl FnOnce(&'a str, &'a str) -> &'a str,
    ) -> Result<String, InvalidConfig> {
        Ok(match self {
            Self::Trial => format!("https://{service}-trial.cognigy.ai"),
            Self::App => format!("https://{service}-app.cognigy.ai"),
            Self::AppUs => format!("https://{service}-app-us.cognigy.ai"),
            Self::Company(name) => format!("https://{service}-{}.cognigy.cloud", label(name)?),
            Self::Cxone(region) => {
                format!("https://cognigy-{service}-{}.nicecxone.com", label(region)?)
            }
            Self::Own { api, endpoint } => own(api, endpoint).to_owned(),
        })
    }
}

/// The name, if it cannot be more than a piece of a host's name.
fn label(name: &str) -> Result<&str, InvalidConfig> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.is_empty() || name.len() > 40 || !name.bytes().all(fits) {
        let problem = "must have a name of letters, digits and hyphens";
        return Err(InvalidConfig::new("host", problem));
    }
    Ok(name)
}
