//! The `data` of a message: what a flow puts beside its text, and what `inject` and `notify` send.
//!
//! ```
//! use tower_webhook::cognigy::WebhookDelivery;
//! use tower_webhook_cognigy::platform::message::{Button, Buttons, ButtonType, MessageData};
//!
//! let delivery = WebhookDelivery::from_bytes(
//!     r#"{"userId":"u","sessionId":"s","AIOutput":{"text":null,"traceId":"t","source":"bot","data":{"_cognigy":
//!         {"_default":{"_buttons":{"type":"buttons","text":"Help?","buttons":
//!         [{"id":1,"title":"Call","type":"phone_number","payload":"+49123"}]}}}}}}"#,
//! )?;
//! let data = MessageData::of(&delivery)?;
//! let buttons = data.template().and_then(|default| default.buttons.as_ref()).ok_or("no buttons")?;
//! let first = buttons.buttons.iter().flatten().next().ok_or("no button")?;
//! assert_eq!(first.kind, Some(ButtonType::PhoneNumber));
//!
//! // The other way round, for `notify`:
//! let data = MessageData::from(Buttons::new("Help?").button(Button::phone_number("Call", "+49123")));
//! # let _ = data;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is read
//!
//! The fields of the platform's typings (O) have types. All are optional but those that say what a thing is: real
//! outputs leave out what the typings require. Fields without a type, and fields that are `null`, are in `other`.
//! What was read is written back as equal JSON: numbers keep their value if they are of `i64`, `u64` or `f64`, and members
//! their names, but not their order. An integer beyond `u64` becomes the nearest `f64`; a number beyond `f64`, such as
//! `1e400`, cannot be read, as `serde_json` has it, nor can what it stands in. A field twice is an error.
//!
//! The author of a flow can put anything into `data`. When that does not fit the typings, reading fails and names
//! the field; [`WebhookDelivery::data`] still has the text.

use super::open::{open_enum, open_struct};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};
use tower_webhook::cognigy::{EventError, WebhookDelivery};

open_struct! {
    /// `data` of an output or an input.
    #[derive(Default)]
    pub struct MessageData {
        /// The messages for the channels.
        pub cognigy: Box<CognigyData> = "_cognigy",
        /// A plugin of the web chat.
        pub plugin: Plugin = "_plugin",
        /// Files that the user has uploaded.
        pub attachments: Vec<UploadedFile> = "attachments",
    }
}

impl MessageData {
    /// Reads the data of a delivery; absent is empty.
    ///
    /// # Errors
    ///
    /// [`EventError`] names the field that does not fit.
    pub fn of(delivery: &WebhookDelivery) -> Result<Self, EventError> {
        match delivery.data() {
            Some(_) => delivery.data_as(),
            None => Ok(Self::default()),
        }
    }

    /// `_cognigy._default`: the message that the platform translates for every channel.
    pub fn template(&self) -> Option<&DefaultMessage> {
        self.cognigy.as_ref()?.default.as_deref()
    }

    /// `_cognigy.event`: the user has connected or disconnected, instead of a message.
    pub fn event(&self) -> Option<&EventMessage> {
        self.cognigy.as_ref()?.event.as_ref()
    }
}

impl From<CognigyData> for MessageData {
    fn from(cognigy: CognigyData) -> Self {
        Self {
            cognigy: Some(Box::new(cognigy)),
            ..Self::default()
        }
    }
}

impl From<DefaultMessage> for MessageData {
    fn from(default: DefaultMessage) -> Self {
        Self::from(CognigyData {
            default: Some(Box::new(default)),
            ..CognigyData::default()
        })
    }
}

open_struct! {
    /// `data._cognigy`. Channels without a type here (`_alexa`, `_line` and others) are in `other`.
    #[derive(Default)]
    pub struct CognigyData {
        /// The message for every channel.
        pub default: Box<DefaultMessage> = "_default",
        /// The message for the web chat.
        pub webchat: ChannelMessage = "_webchat",
        /// An event of a handover, for web chat 3.
        pub webchat3: Webchat3Event = "_webchat3",
        /// The message for Messenger.
        pub facebook: ChannelMessage = "_facebook",
        /// A plugin: the typings leave it open.
        pub plugin: Value = "_plugin",
        /// Whether the web chat shows the message for Messenger.
        pub sync_webchat_with_facebook: bool = "syncWebchatWithFacebook",
        /// Commands to the platform.
        pub control_commands: Vec<ControlCommand> = "controlCommands",
        /// The user has connected or disconnected.
        pub event: EventMessage = "event",
    }
}

open_struct! {
    /// `data._cognigy._default`. One of the fields is set.
    #[derive(Default)]
    pub struct DefaultMessage {
        /// Text with quick replies.
        pub quick_replies: QuickReplies = "_quickReplies",
        /// A carousel of cards.
        pub gallery: Gallery = "_gallery",
        /// Text with buttons.
        pub buttons: Buttons = "_buttons",
        /// A list.
        pub list: List = "_list",
        /// Audio.
        pub audio: Audio = "_audio",
        /// An image.
        pub image: Image = "_image",
        /// A video.
        pub video: Video = "_video",
        /// An adaptive card.
        pub adaptive_card: AdaptiveCard = "_adaptiveCard",
    }
}

/// Makes a [`MessageData`] of each template.
macro_rules! templates {
    ($($template:ident: $field:ident,)+) => {$(
        impl From<$template> for MessageData {
            fn from(template: $template) -> Self {
                Self::from(DefaultMessage {
                    $field: Some(template),
                    ..DefaultMessage::default()
                })
            }
        }
    )+};
}
templates! {
    QuickReplies: quick_replies,
    Gallery: gallery,
    Buttons: buttons,
    List: list,
    Audio: audio,
    Image: image,
    Video: video,
    AdaptiveCard: adaptive_card,
}

open_struct! {
    /// Text with quick replies. `type` is `quick_replies`.
    #[derive(Default)]
    pub struct QuickReplies {
        pub kind: Box<str> = "type",
        pub text: String = "text",
        pub quick_replies: Vec<QuickReply> = "quickReplies",
        /// What channels say that cannot show it, such as voice.
        pub fallback_text: String = "fallbackText",
    }
}

impl QuickReplies {
    /// Makes a text without replies.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            kind: Some("quick_replies".into()),
            text: Some(text.into()),
            quick_replies: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// Adds a reply. Its id is its position, from 1, unless it has one.
    #[must_use]
    pub fn reply(mut self, mut reply: QuickReply) -> Self {
        let replies = self.quick_replies.get_or_insert_default();
        reply
            .id
            .get_or_insert_with(|| Number::from(replies.len() + 1));
        replies.push(reply);
        self
    }
}

open_struct! {
    /// A quick reply.
    #[derive(Default)]
    pub struct QuickReply {
        /// A number of the author's choice; the platform's own are fractions.
        pub id: Number = "id",
        pub content_type: ButtonType = "contentType",
        pub title: String = "title",
        /// What is sent when it is chosen, or the telephone number.
        pub payload: String = "payload",
        pub image_url: String = "imageUrl",
        pub image_alt_text: String = "imageAltText",
        /// The intent of a `trigger_intent`.
        pub intent_name: String = "intentName",
    }
}

impl QuickReply {
    /// Makes a reply that sends `payload` as the user's input.
    pub fn postback(title: impl Into<String>, payload: impl Into<String>) -> Self {
        Self::new(ButtonType::Postback, title, payload)
    }

    /// Makes a reply that dials `number`.
    pub fn phone_number(title: impl Into<String>, number: impl Into<String>) -> Self {
        Self::new(ButtonType::PhoneNumber, title, number)
    }

    /// Makes a reply that triggers an intent by its name.
    pub fn trigger_intent(title: impl Into<String>, intent: impl Into<String>) -> Self {
        Self {
            intent_name: Some(intent.into()),
            ..Self::new(ButtonType::TriggerIntent, title, "")
        }
    }

    fn new(kind: ButtonType, title: impl Into<String>, payload: impl Into<String>) -> Self {
        Self {
            content_type: Some(kind),
            title: Some(title.into()),
            payload: Some(payload.into()),
            ..Self::default()
        }
    }
}

open_enum! {
    /// What a button or a quick reply does.
    pub enum ButtonType {
        /// Sends its payload as the user's input:
        Postback = "postback",
        /// Opens its URL:
        WebUrl = "web_url",
        /// Dials the number in its payload:
        PhoneNumber = "phone_number",
        /// Triggers the intent in `intentName`, in the documentation (O) but not in the typings:
        TriggerIntent = "trigger_intent",
    }
}

open_struct! {
    /// A button.
    #[derive(Default)]
    pub struct Button {
        /// A number of the author's choice; the platform's own are fractions.
        pub id: Number = "id",
        pub kind: ButtonType = "type",
        pub title: String = "title",
        /// What is sent when it is pressed, or the telephone number.
        pub payload: String = "payload",
        /// What is opened.
        pub url: String = "url",
        /// Where it is opened: `_blank` or `_self`.
        pub target: Box<str> = "target",
        /// The intent of a `trigger_intent`.
        pub intent_name: String = "intentName",
        /// Whether a list shows its separate button.
        pub condition: String = "condition",
        /// The height of Messenger's view, such as `full`.
        pub webview_height_ratio: Box<str> = "webview_height_ratio",
        /// Whether Messenger's extensions are on.
        pub messenger_extensions: bool = "messenger_extensions",
    }
}

impl Button {
    /// Makes a button that sends `payload` as the user's input.
    pub fn postback(title: impl Into<String>, payload: impl Into<String>) -> Self {
        Self::new(ButtonType::Postback, title, payload)
    }

    /// Makes a button that opens `url`.
    pub fn web_url(title: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            url: Some(url.into()),
            ..Self::new(ButtonType::WebUrl, title, "")
        }
    }

    /// Makes a button that dials `number`.
    pub fn phone_number(title: impl Into<String>, number: impl Into<String>) -> Self {
        Self::new(ButtonType::PhoneNumber, title, number)
    }

    /// Makes a button that triggers an intent by its name.
    pub fn trigger_intent(title: impl Into<String>, intent: impl Into<String>) -> Self {
        Self {
            intent_name: Some(intent.into()),
            ..Self::new(ButtonType::TriggerIntent, title, "")
        }
    }

    fn new(kind: ButtonType, title: impl Into<String>, payload: impl Into<String>) -> Self {
        Self {
            kind: Some(kind),
            title: Some(title.into()),
            payload: Some(payload.into()),
            ..Self::default()
        }
    }
}

/// Adds a button, whose id is its position, from 1, unless it has one.
fn add(buttons: &mut Option<Vec<Button>>, mut button: Button) {
    let buttons = buttons.get_or_insert_default();
    button
        .id
        .get_or_insert_with(|| Number::from(buttons.len() + 1));
    buttons.push(button);
}

open_struct! {
    /// Text with buttons. `type` is `buttons`.
    #[derive(Default)]
    pub struct Buttons {
        pub kind: Box<str> = "type",
        pub text: String = "text",
        pub buttons: Vec<Button> = "buttons",
        /// What channels say that cannot show it, such as voice.
        pub fallback_text: String = "fallbackText",
    }
}

impl Buttons {
    /// Makes a text without buttons.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            kind: Some("buttons".into()),
            text: Some(text.into()),
            buttons: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// Adds a button. Its id is its position, from 1, unless it has one.
    #[must_use]
    pub fn button(mut self, button: Button) -> Self {
        add(&mut self.buttons, button);
        self
    }
}

open_struct! {
    /// A card of a gallery, or an item of a list.
    #[derive(Default)]
    pub struct Item {
        /// A number of the author's choice; the platform's own are fractions.
        pub id: Number = "id",
        pub title: String = "title",
        pub subtitle: String = "subtitle",
        pub image_url: String = "imageUrl",
        pub image_alt_text: String = "imageAltText",
        pub buttons: Vec<Button> = "buttons",
        /// What an item of a list opens.
        pub default_action_url: String = "defaultActionUrl",
    }
}

impl Item {
    /// Makes an item with a title.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: Some(title.into()),
            subtitle: Some(String::new()),
            image_url: Some(String::new()),
            ..Self::default()
        }
    }

    /// Sets the subtitle. Default: empty.
    #[must_use]
    pub fn subtitle(mut self, text: impl Into<String>) -> Self {
        self.subtitle = Some(text.into());
        self
    }

    /// Sets the image and the text in its place. Default: none.
    #[must_use]
    pub fn image(mut self, url: impl Into<String>, alt_text: impl Into<String>) -> Self {
        self.image_url = Some(url.into());
        self.image_alt_text = Some(alt_text.into());
        self
    }

    /// Adds a button. Its id is its position, from 1, unless it has one.
    #[must_use]
    pub fn button(mut self, button: Button) -> Self {
        add(&mut self.buttons, button);
        self
    }
}

open_struct! {
    /// A carousel of cards. `type` is `carousel`.
    #[derive(Default)]
    pub struct Gallery {
        pub kind: Box<str> = "type",
        pub items: Vec<Item> = "items",
        /// What channels say that cannot show it, such as voice.
        pub fallback_text: String = "fallbackText",
    }
}

impl Gallery {
    /// Makes a gallery of these cards. Their ids are their positions, from 1, unless they have one.
    pub fn new(items: impl IntoIterator<Item = Item>) -> Self {
        let number = |(at, mut item): (usize, Item)| {
            item.id.get_or_insert_with(|| Number::from(at + 1));
            item
        };
        Self {
            kind: Some("carousel".into()),
            items: Some(items.into_iter().enumerate().map(number).collect()),
            ..Self::default()
        }
    }
}

open_struct! {
    /// A list. `type` is `list`.
    #[derive(Default)]
    pub struct List {
        pub kind: Box<str> = "type",
        pub items: Vec<Item> = "items",
        /// The button below the items.
        pub button: Button = "button",
        /// What channels say that cannot show it, such as voice.
        pub fallback_text: String = "fallbackText",
    }
}

impl List {
    /// Makes a list of these items, with a button below them.
    pub fn new(items: impl IntoIterator<Item = Item>, mut button: Button) -> Self {
        button.condition.get_or_insert_default();
        Self {
            kind: Some("list".into()),
            items: Some(items.into_iter().collect()),
            button: Some(button),
            ..Self::default()
        }
    }
}

open_struct! {
    /// Audio. `type` is `audio`.
    #[derive(Default)]
    pub struct Audio {
        pub kind: Box<str> = "type",
        pub audio_url: String = "audioUrl",
        pub audio_alt_text: String = "audioAltText",
        /// What channels say that cannot play it.
        pub fallback_text: String = "fallbackText",
    }
}

impl Audio {
    /// Makes audio from a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            kind: Some("audio".into()),
            audio_url: Some(url.into()),
            ..Self::default()
        }
    }
}

open_struct! {
    /// An image. `type` is `image`.
    #[derive(Default)]
    pub struct Image {
        pub kind: Box<str> = "type",
        pub image_url: String = "imageUrl",
        pub image_alt_text: String = "imageAltText",
        /// A button for the download.
        pub buttons: Vec<Button> = "buttons",
        /// What channels say that cannot show it, such as voice.
        pub fallback_text: String = "fallbackText",
    }
}

impl Image {
    /// Makes an image from a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            kind: Some("image".into()),
            image_url: Some(url.into()),
            ..Self::default()
        }
    }
}

open_struct! {
    /// A video. `type` is `video`.
    #[derive(Default)]
    pub struct Video {
        pub kind: Box<str> = "type",
        pub video_url: String = "videoUrl",
        pub video_alt_text: String = "videoAltText",
        pub video_captions_url: String = "videoCaptionsUrl",
        /// What channels say that cannot play it, such as voice.
        pub fallback_text: String = "fallbackText",
    }
}

impl Video {
    /// Makes a video from a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            kind: Some("video".into()),
            video_url: Some(url.into()),
            ..Self::default()
        }
    }
}

open_struct! {
    /// An adaptive card. `type` is `adaptiveCard`.
    #[derive(Default)]
    pub struct AdaptiveCard {
        pub kind: Box<str> = "type",
        /// The card, as [adaptivecards.io](https://adaptivecards.io) defines it.
        pub adaptive_card: Value = "adaptiveCard",
    }
}

impl AdaptiveCard {
    /// Makes a message of a card.
    pub fn new(card: Value) -> Self {
        Self {
            kind: Some("adaptiveCard".into()),
            adaptive_card: Some(card),
            other: Map::new(),
        }
    }
}

open_struct! {
    /// `_webchat` and `_facebook`: a message in the form of Messenger, or an adaptive card.
    #[derive(Default)]
    pub struct ChannelMessage {
        pub message: MessengerMessage = "message",
        /// `adaptiveCard`, if it is one.
        pub kind: Box<str> = "type",
        /// The card, as [adaptivecards.io](https://adaptivecards.io) defines it.
        pub adaptive_card: Value = "adaptiveCard",
    }
}

open_struct! {
    /// A message in the form of Messenger.
    #[derive(Default)]
    pub struct MessengerMessage {
        pub text: String = "text",
        pub quick_replies: Vec<MessengerReply> = "quick_replies",
        pub attachment: MessengerAttachment = "attachment",
    }
}

open_struct! {
    /// A quick reply in the form of Messenger.
    #[derive(Default)]
    pub struct MessengerReply {
        /// `text` or another of Messenger's.
        pub content_type: Box<str> = "content_type",
        pub title: String = "title",
        pub payload: String = "payload",
        pub image_url: String = "image_url",
        pub image_alt_text: String = "image_alt_text",
        pub condition: String = "condition",
    }
}

open_enum! {
    /// The kind of an attachment in the form of Messenger.
    pub enum MessengerAttachmentType {
        /// Cards, buttons or a list:
        Template = "template",
        /// Audio:
        Audio = "audio",
        /// An image:
        Image = "image",
        /// A video:
        Video = "video",
    }
}

open_struct! {
    /// An attachment in the form of Messenger.
    pub struct MessengerAttachment {
        required {
            pub kind: MessengerAttachmentType = "type",
        }
        pub payload: MessengerPayload = "payload",
    }
}

open_struct! {
    /// The payload of an attachment in the form of Messenger.
    #[derive(Default)]
    pub struct MessengerPayload {
        /// Of a template: `generic`, `button` or `list`.
        pub template_type: Box<str> = "template_type",
        /// Of a template: its cards or items.
        pub elements: Vec<MessengerElement> = "elements",
        /// Of a template or an image.
        pub buttons: Vec<Button> = "buttons",
        /// Of a template of buttons.
        pub text: String = "text",
        /// Of a list: `compact`, `large`, or a boolean.
        pub top_element_style: Value = "top_element_style",
        /// Of audio, an image or a video.
        pub url: String = "url",
        /// Of audio, an image or a video.
        pub alt_text: String = "altText",
        /// Of a video.
        pub captions_url: String = "captionsUrl",
    }
}

open_struct! {
    /// A card or an item in the form of Messenger.
    #[derive(Default)]
    pub struct MessengerElement {
        pub title: String = "title",
        pub subtitle: String = "subtitle",
        pub image_url: String = "image_url",
        pub image_alt_text: String = "image_alt_text",
        pub buttons: Vec<Button> = "buttons",
        /// What it opens: `{type, url}`.
        pub default_action: Button = "default_action",
    }
}

open_enum! {
    /// The type of a [`Webchat3Event`].
    pub enum Webchat3EventType {
        /// The user's place in the queue:
        QueueUpdate = "queueUpdate",
        /// Something that the agent has done:
        LiveAgentEvent = "liveAgentEvent",
    }
}

open_struct! {
    /// An event of a handover, for web chat 3.
    pub struct Webchat3Event {
        required {
            pub kind: Webchat3EventType = "type",
        }
        pub payload: Webchat3Payload = "payload",
    }
}

open_struct! {
    /// The payload of a [`Webchat3Event`].
    #[derive(Default)]
    pub struct Webchat3Payload {
        /// Of a queue: the place; `null` is unknown.
        pub position: Number = "position",
        /// Of a queue: the time to wait; `null` is unknown. The unit is not documented.
        pub estimated_wait_time: Number = "estimatedWaitTime",
        /// Of a queue: the text to show instead.
        pub alternative_text: String = "alternativeText",
        /// Of an agent: the text to show.
        pub text: String = "text",
        /// Of an agent: what was done.
        pub action: String = "action",
        /// Of an agent: the name.
        pub agent_name: String = "agentName",
    }
}

open_enum! {
    /// The type of a [`Plugin`].
    pub enum PluginType {
        /// A calendar, with [`DatePicker`]:
        DatePicker = "date-picker",
        /// An app beside the chat, with [`XApp`]:
        XApp = "x-app",
        /// The result of an app:
        XAppSubmit = "x-app-submit",
        /// An adaptive card:
        AdaptiveCards = "adaptivecards",
    }
}

open_struct! {
    /// `data._plugin`: a plugin of the web chat.
    pub struct Plugin {
        required {
            pub kind: PluginType = "type",
        }
        /// Its settings, typed by [`data_as`](Plugin::data_as).
        pub data: Value = "data",
    }
}

impl Plugin {
    /// Makes a calendar.
    pub fn date_picker(settings: &DatePicker) -> Self {
        Self {
            kind: PluginType::DatePicker,
            data: serde_json::to_value(settings).ok(),
            other: Map::new(),
        }
    }

    /// `data`, typed, such as [`DatePicker`] or [`XApp`]; absent is null.
    ///
    /// # Errors
    ///
    /// That of `serde_json`.
    pub fn data_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(self.data.as_ref().unwrap_or(&Value::Null))
    }
}

open_struct! {
    /// The settings of a calendar. Dates are texts that the web chat reads.
    #[derive(Default)]
    pub struct DatePicker {
        pub event_name: String = "eventName",
        pub locale: String = "locale",
        /// A boolean, or a text that is empty for false.
        pub enable_time: Value = "enableTime",
        pub default_date: String = "defaultDate",
        /// `single`, `multiple` or `range`.
        pub mode: Box<str> = "mode",
        /// A boolean, or a text that is empty for false.
        pub want_disable: Value = "wantDisable",
        /// What is disabled: a list, a boolean or null.
        pub enable_disable: Value = "enable_disable",
        pub function_enable_disable: String = "function_enable_disable",
        pub min_date: String = "minDate",
        pub max_date: String = "maxDate",
        pub open_picker_button_text: String = "openPickerButtonText",
        pub cancel_button_text: String = "cancelButtonText",
        pub submit_button_text: String = "submitButtonText",
        /// A boolean, or a text that is empty for false.
        pub time_24hr: Value = "time_24hr",
        pub date_format: String = "dateFormat",
        pub default_hour: Number = "defaultHour",
        pub default_minute: Number = "defaultMinute",
        pub enable_seconds: Number = "enableSeconds",
        pub hour_increment: Number = "hourIncrement",
        pub minute_increment: Number = "minuteIncrement",
        pub no_calendar: bool = "noCalendar",
        pub week_numbers: bool = "weekNumbers",
    }
}

open_struct! {
    /// The settings of an app beside the chat.
    #[derive(Default)]
    pub struct XApp {
        pub session_url: String = "sessionUrl",
        pub open_button_label: String = "openButtonLabel",
        pub immediate_open: bool = "immediateOpen",
        pub header_title: String = "headerTitle",
    }
}

open_enum! {
    /// The type of a [`ControlCommand`].
    pub enum ControlCommandType {
        /// Rates the conversation, with [`Rating`]:
        SetRating = "setRating",
    }
}

open_struct! {
    /// A command to the platform.
    pub struct ControlCommand {
        required {
            pub kind: ControlCommandType = "type",
        }
        /// Its parameters, typed by [`parameters_as`](ControlCommand::parameters_as).
        pub parameters: Value = "parameters",
    }
}

impl ControlCommand {
    /// Makes the command that rates the conversation.
    pub fn set_rating(rating: &Rating) -> Self {
        Self {
            kind: ControlCommandType::SetRating,
            parameters: serde_json::to_value(rating).ok(),
            other: Map::new(),
        }
    }

    /// `parameters`, typed, such as [`Rating`]; absent is null.
    ///
    /// # Errors
    ///
    /// That of `serde_json`.
    pub fn parameters_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(self.parameters.as_ref().unwrap_or(&Value::Null))
    }
}

open_struct! {
    /// A user's rating of a conversation.
    #[derive(Default)]
    pub struct Rating {
        pub rating: Number = "rating",
        pub comment: String = "comment",
        pub show_rating_status: bool = "showRatingStatus",
    }
}

open_enum! {
    /// What the virus scanner says of an [`UploadedFile`].
    pub enum ScanStatus {
        /// It must not be opened:
        Infected = "infected",
        /// Nothing was found:
        Scanned = "scanned",
    }
}

open_struct! {
    /// `data.attachments`: a file that the user has uploaded.
    #[derive(Default)]
    pub struct UploadedFile {
        pub runtime_file_id: String = "runtimeFileId",
        pub file_name: String = "fileName",
        pub status: ScanStatus = "status",
        pub mime_type: String = "mimeType",
        /// In bytes.
        pub size: Number = "size",
        /// Where it is. Whoever has the URL can read it.
        pub url: String = "url",
    }
}

open_enum! {
    /// The type of an [`EventMessage`].
    pub enum EventMessageType {
        /// The user is there:
        UserConnected = "user-connected",
        /// The user has gone, three seconds ago or more:
        UserDisconnected = "user-disconnected",
    }
}

open_struct! {
    /// `data._cognigy.event`: web chat and Socket.IO endpoints send it in place of a message. It triggers no flow.
    pub struct EventMessage {
        required {
            pub kind: EventMessageType = "type",
        }
    }
}
