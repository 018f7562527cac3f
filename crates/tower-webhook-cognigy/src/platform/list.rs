use super::{id::MongoId, limits};
use crate::{
    ApiError,
    connection::{Connection, Pages, request, with_query},
};
use futures_util::stream::{self, Stream, TryStreamExt};
use http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use tower_webhook::InvalidConfig;

/// What a list has, and in which order. Default: everything, 100 on a page.
///
/// ```
/// use tower_webhook_cognigy::platform::ListQuery;
///
/// let newest = ListQuery::new().sort("createdAt:desc").page_size(25)?;
/// assert!(ListQuery::new().page_size(101).is_err());
/// # let _ = newest;
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ListQuery {
    page_size: u32,
    skip: u64,
    parameters: Vec<(String, String)>,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self {
            page_size: limits::PAGE_ITEMS,
            skip: 0,
            parameters: Vec::new(),
        }
    }
}

impl ListQuery {
    /// Everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the project. Default: all.
    pub fn project(self, id: &MongoId) -> Self {
        self.parameter("projectId", id.as_str())
    }

    /// Sets the text that names have. Default: any.
    pub fn filter(self, text: impl Into<String>) -> Self {
        self.parameter("filter", text)
    }

    /// Sets the order: `name:asc`, `createdAt:desc`. Default: the server's.
    pub fn sort(self, order: impl Into<String>) -> Self {
        self.parameter("sort", order)
    }

    /// Sets how many items are on a page. Default: 100, the most. Fewer on a page means more requests, not fewer items.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `page_size`, if it is not from 1 to 100.
    pub fn page_size(mut self, items: u32) -> Result<Self, InvalidConfig> {
        if !(1..=limits::PAGE_ITEMS).contains(&items) {
            return Err(InvalidConfig::new("page_size", "must be from 1 to 100"));
        }
        self.page_size = items;
        Ok(self)
    }

    /// Sets how many items are left out at the beginning. Default: 0.
    pub const fn skip(mut self, items: u64) -> Self {
        self.skip = items;
        self
    }

    /// Adds any parameter, such as `type` of a log. It may occur several times.
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// The path of the next page.
    fn path(&self, path: &str, next: &Next) -> String {
        let limit = self.page_size.to_string();
        let mut query = vec![("limit", &*limit)];
        let skip;
        match next {
            Next::Skip(0) => {}
            Next::Skip(items) => {
                skip = items.to_string();
                query.push(("skip", &skip));
            }
            Next::Cursor(cursor) => query.push(("next", cursor)),
        }
        let parameters = self.parameters.iter();
        query.extend(parameters.map(|(name, value)| (&**name, &**value)));
        with_query(path, &query)
    }
}

/// Where the next page begins.
enum Next {
    Skip(u64),
    Cursor(String),
}

/// A page of a list.
#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    total: Option<u64>,
    #[serde(rename = "nextCursor")]
    next_cursor: Option<String>,
    /// The cursor in old versions. Not an alias: both in one page would be an error.
    next: Option<String>,
}

/// All items of a list, page by page, as they are asked for.
///
/// The next page is the one of the cursor. Where a server gives no cursor, it is asked to skip what was read, until there
/// is as much as it said in `total`, or nothing comes.
pub(super) fn pages<T: DeserializeOwned + Send + 'static>(
    connection: &Connection,
    operation: &'static str,
    path: String,
    query: ListQuery,
) -> impl Stream<Item = Result<T, ApiError>> + Send + use<T> {
    struct At {
        connection: Connection,
        path: String,
        query: ListQuery,
        next: Next,
        read: u64,
        pages: Pages,
    }
    let start = At {
        connection: connection.clone(),
        path,
        next: Next::Skip(query.skip),
        read: query.skip,
        pages: Pages::default(),
        query,
    };
    stream::try_unfold(Some(start), move |at| async move {
        let Some(mut at) = at else { return Ok(None) };
        let path = at.query.path(&at.path, &at.next);
        let req = request(Method::GET, &path);
        let page: Page<T> = at.connection.json(operation, req).await?;
        at.read = at.read.saturating_add(page.items.len() as u64);
        let cursor = page.next_cursor.or(page.next);
        let cursor = cursor.filter(|cursor| !cursor.is_empty());
        let more = match (cursor, &at.next) {
            (Some(cursor), _) => {
                at.next = Next::Cursor(cursor);
                true
            }
            // The last of the pages with cursors.
            (None, Next::Cursor(_)) => false,
            (None, Next::Skip(_)) => {
                at.next = Next::Skip(at.read);
                !page.items.is_empty() && page.total.is_some_and(|total| at.read < total)
            }
        };
        let cursor = match &at.next {
            Next::Cursor(cursor) => Some(cursor.as_str()),
            Next::Skip(_) => None,
        };
        if more && !at.pages.may_follow(cursor) {
            return Err(ApiError::endless(operation));
        }
        let items = stream::iter(page.items.into_iter().map(Ok));
        Ok(Some((items, more.then_some(at))))
    })
    .try_flatten()
}
