use crate::cognigy::json::{Members, Result, Scanner, Span};

/// Where the fields of both signed forms stand in a body.
#[derive(Debug)]
pub(super) struct Fields {
    top: Members<9>,
    payload: Members<2>,
    variables: Members<1>,
}

const EVENT_ID: usize = 0;
const TYPE: usize = 1;
const TIMESTAMP: usize = 2;
const PAYLOAD: usize = 3;
const EXTERNAL_ID: usize = 4;
const USER_ID: usize = 5;
const CONVERSATION_ID: usize = 6;
const CURRENT_NODE: usize = 7;
const VARIABLES: usize = 8;

const PROFILE: usize = 0;
const INPUT: usize = 1;

const CUSTOMER_ID: usize = 0;

impl Fields {
    /// Reads the body once, to its end.
    pub(super) fn read(body: &[u8]) -> Result<Self> {
        let mut top = Members::new(
            "",
            &[
                "eventId",
                "type",
                "timestamp",
                "payload",
                "externalId",
                "userId",
                "conversationId",
                "currentNode",
                "variables",
            ],
        );
        let mut payload = Members::new("payload.", &["profile", "input"]);
        let mut variables = Members::new("variables.", &["customerId"]);

        Scanner::new(body)?.root(|scan, key| {
            let Some(index) = top.find(key)? else {
                return scan.value().map(drop);
            };
            let span = match index {
                PAYLOAD => payload.read(scan)?,
                VARIABLES => variables.read(scan)?,
                _ => scan.value()?,
            };
            top.set(index, span);
            Ok(())
        })?;
        Ok(Self {
            top,
            payload,
            variables,
        })
    }

    /// Whether the body means to be S4's envelope.
    pub(super) const fn is_envelope(&self) -> bool {
        self.event_id().is_some() || self.kind().is_some()
    }

    pub(super) const fn event_id(&self) -> Option<Span> {
        self.top.get(EVENT_ID)
    }

    pub(super) const fn kind(&self) -> Option<Span> {
        self.top.get(TYPE)
    }

    pub(super) const fn timestamp(&self) -> Option<Span> {
        self.top.get(TIMESTAMP)
    }

    pub(super) const fn payload(&self) -> Option<Span> {
        self.top.get(PAYLOAD)
    }

    pub(super) const fn profile(&self) -> Option<Span> {
        self.payload.get(PROFILE)
    }

    pub(super) const fn input(&self) -> Option<Span> {
        self.payload.get(INPUT)
    }

    pub(super) const fn external_id(&self) -> Option<Span> {
        self.top.get(EXTERNAL_ID)
    }

    pub(super) const fn user_id(&self) -> Option<Span> {
        self.top.get(USER_ID)
    }

    pub(super) const fn conversation_id(&self) -> Option<Span> {
        self.top.get(CONVERSATION_ID)
    }

    pub(super) const fn current_node(&self) -> Option<Span> {
        self.top.get(CURRENT_NODE)
    }

    pub(super) const fn variables(&self) -> Option<Span> {
        self.top.get(VARIABLES)
    }

    pub(super) const fn customer_id(&self) -> Option<Span> {
        self.variables.get(CUSTOMER_ID)
    }
}
