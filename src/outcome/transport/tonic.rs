use super::{h2, hyper};
use crate::outcome::{Outcome, chain::links};
use ::hyper_util::client::legacy::connect::HttpConnector;
use std::{error::Error, io};
use tower_service::Service;

/// Private where it is defined, but every service names its error.
type ConnectError = <HttpConnector as Service<http::Uri>>::Error;

/// The errors of a `tonic::transport::Channel` used as a service. The [module docs](super) have the
/// table.
///
/// A channel hides its own errors; what is below them decides. An I/O error without an error of a
/// connection above it is the connector's, TLS included: so this rule belongs where the channel is
/// the only source of such errors.
///
/// # Examples
///
/// ```
/// use tower_webhook::outcome::{GrpcClassifier, transport};
///
/// let classifier = GrpcClassifier::new().errors(transport::tonic);
/// # let _ = classifier;
/// ```
pub fn tonic(link: &(dyn Error + 'static)) -> Option<Outcome> {
    let by_connection = links(link).find_map(|link| {
        if let Some(error) = link.downcast_ref() {
            return Some(hyper::judge(error));
        }
        link.downcast_ref().map(h2::judge)
    });
    if by_connection.is_some() {
        return by_connection;
    }
    let connecting =
        |link: &(dyn Error + 'static)| link.is::<ConnectError>() || link.is::<io::Error>();
    links(link).any(connecting).then(Outcome::unreached)
}
