use super::open::open_enum;
use crate::ApiError;

open_enum! {
    /// The platform's own code of a problem (O?): in the problem's `code`, as a number or a text.
    ///
    /// Those below 1000 repeat the status.
    ///
    /// ```
    /// use tower_webhook_cognigy::{ApiError, platform::ErrorCode};
    ///
    /// fn is_taken(error: &ApiError) -> bool {
    ///     ErrorCode::of(error) == Some(ErrorCode::Conflict)
    /// }
    /// ```
    pub enum ErrorCode {
        /// The request is malformed:
        BadRequest = "400",
        /// The credential is missing or wrong:
        Unauthorized = "401",
        /// The licence does not cover it:
        PaymentRequired = "402",
        /// The role does not allow it:
        Forbidden = "403",
        /// The body is too large:
        PayloadTooLarge = "413",
        /// Too many requests:
        TooManyRequests = "429",
        /// A service behind the API is not there:
        BadGateway = "502",
        /// The API is not there:
        ServiceUnavailable = "503",
        /// A service behind the API takes too long:
        GatewayTimeout = "504",
        /// An argument is missing (400):
        MissingArgument = "1000",
        /// The database did not write:
        DatabaseWrite = "1001",
        /// There is no such resource (404):
        ResourceNotFound = "1002",
        /// The database did not read:
        DatabaseRead = "1003",
        /// The resource exists, or has changed (409):
        Conflict = "1004",
        /// An argument is invalid (400):
        InvalidArgument = "1005",
        /// An import failed:
        Import = "1006",
        /// An export failed:
        Export = "1007",
        /// The server failed (500):
        InternalServer = "1008",
        /// It cannot be done yet:
        NotImplemented = "1009",
        /// A process failed:
        Process = "1010",
        /// A file could not be read:
        FileRead = "1011",
        /// A file could not be written:
        FileWrite = "1012",
        /// The method is not allowed (405):
        MethodNotAllowed = "1013",
        /// The mail server is not there:
        SmtpConnect = "1999",
        /// The database is not there:
        DatabaseConnect = "2000",
        /// A query failed:
        DatabaseQuery = "2001",
        /// Reading or writing failed:
        InputOutput = "3000",
        /// It took too long (504):
        Timeout = "8001",
    }
}

impl ErrorCode {
    /// The code of an error, if the platform gave one.
    pub fn of(error: &ApiError) -> Option<Self> {
        error.code().map(Self::from)
    }
}
