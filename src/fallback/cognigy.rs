use super::{AnswerHttp, FallbackLayer};
use crate::{body::BufferedBody, cognigy::DialogAnswer};
use http::{HeaderValue, Response, header};

impl FallbackLayer<AnswerHttp> {
    /// The fallback branch of the Cognigy documents (S3): 200, and a dialog that goes on at
    /// `default_fallback_branch`, when the attempts are exhausted and when the circuit is open.
    ///
    /// `max_retries` is what the answer says as `maxRetries`: the attempts allowed, 3 in S3. See
    /// [`DialogAnswer::fallback`].
    ///
    /// ```
    /// use tower_webhook::FallbackLayer;
    ///
    /// let layer = FallbackLayer::cognigy(3);
    /// # let _ = layer;
    /// ```
    pub fn cognigy(max_retries: u32) -> Self {
        // Fixed texts and a number: writing them to memory cannot fail.
        let json = DialogAnswer::fallback(max_retries).to_json();
        let body = BufferedBody::new(json.unwrap_or_default());
        Self::http(move |_| {
            let mut response = Response::new(body.clone());
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
            Some(response)
        })
    }
}
