//! `data._cognigy`.

use super::unchanged;
use proptest::{
    collection::{btree_map, vec},
    prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest},
    sample::select,
};
use serde_json::{Number, Value, json};
use tower_webhook::cognigy::WebhookDelivery;
use tower_webhook_cognigy::platform::message::{
    AdaptiveCard, Audio, Button, ButtonType, Buttons, ControlCommand, ControlCommandType,
    DatePicker, EventMessageType, Gallery, Image, Item, List, MessageData, MessengerAttachmentType,
    Plugin, PluginType, QuickReplies, QuickReply, Rating, ScanStatus, Video, Webchat3EventType,
    XApp,
};

const QUICK_REPLIES: &str = r#"{"type":"quickReplies","_cognigy":{"_default":{"_quickReplies":{
    "type":"quick_replies","text":"Quick Reply Text","quickReplies":[
    {"id":111,"contentType":"postback","payload":"Postback 1","title":"Button 1","imageUrl":"https://www.cognigy.com/hubfs/Cognigy.svg"},
    {"id":112,"contentType":"phone_number","payload":"+49123456","title":"Button 2"},
    {"id":112,"contentType":"trigger_intent","payload":"","title":"Button 3","intentName":"Intent Name"}]}}}}"#;

const GALLERY: &str = r#"{"type":"gallery","_cognigy":{"_default":{"_gallery":{"type":"carousel","items":[
    {"id":111,"title":"Cognigy.AI","subtitle":"Cognigy.AI is a conversational AI platform.","imageUrl":"https://www.cognigy.com/hubfs/AI%20Copy%205.svg","buttons":[
        {"id":112,"payload":"Postback 1","type":"postback","title":"Button 1"},
        {"id":113,"payload":"","type":"web_url","title":"URL Button","url":"https://www.cognigy.com/products/cognigy-ai"}]},
    {"id":121,"title":"Cognigy.VG","subtitle":"Cognigy Voice Gateway connects your AI to your contact center","imageUrl":"https://www.cognigy.com/hubfs/cognigy-vg-logo.svg","buttons":[
        {"id":122,"payload":"","type":"web_url","title":"Click me","url":"https://www.cognigy.com/products/voice-gateway"}]}],
    "fallbackText":"Fallback text for voice channels"}}}}"#;

const BUTTONS: &str = r#"{"type":"buttons","_cognigy":{"_default":{"_buttons":{"type":"buttons","text":"Text with Buttons","buttons":[
    {"id":111,"payload":"Postback Value","type":"postback","title":"Postback Value Button"},
    {"id":112,"payload":"","type":"web_url","title":"URL Button","url":"https:\\\\google.com"},
    {"id":113,"payload":"+491234567","type":"phone_number","title":"Phone Number Button"},
    {"id":114,"payload":"","type":"trigger_intent","title":"Intent Button","intentName":"Intent Name"}]}}}}"#;

const LIST: &str = r#"{"type":"list","_cognigy":{"_default":{"_list":{"type":"list","items":[
    {"title":"List Item 1","subtitle":"Subtitle","imageUrl":"https://www.cognigy.com/hubfs/Cognigy.svg","defaultActionUrl":"","imageAltText":"Alternate Text",
     "buttons":[{"type":"postback","payload":"Postback Value","title":"Postback Button"}]},
    {"title":"List Item 2","subtitle":"","imageUrl":"","defaultActionUrl":"",
     "buttons":[{"type":"web_url","payload":"","title":"URL Button","url":"https:\\\\www.google.com"}]},
    {"title":"List Item 3","subtitle":"","imageUrl":"","defaultActionUrl":"",
     "buttons":[{"type":"phone_number","payload":"+491234567","title":"Phone Number Button"}]},
    {"title":"List Item 4","subtitle":"","imageUrl":"","defaultActionUrl":"",
     "buttons":[{"type":"trigger_intent","payload":"","title":"Intent Button","intentName":"Intent Name"}]}],
    "button":{"type":"postback","condition":"","payload":"Postback value","title":"Separate Button from List"}}}}}"#;

const AUDIO: &str = r#"{"type":"audio","_cognigy":{"_default":{"_audio":{"type":"audio","audioUrl":"https://audio.test/test.wav"}}}}"#;
const IMAGE: &str = r#"{"type":"image","_cognigy":{"_default":{"_image":{"type":"image","imageUrl":"https://testURL.test/image.jpeg"}}}}"#;
const VIDEO: &str = r#"{"type":"video","_cognigy":{"_default":{"_video":{"type":"video","videoUrl":"https://www.youtube.com/watch?v=iGc3fekZQOw"}}}}"#;

const ADAPTIVE_CARD: &str = r#"{"type":"adaptiveCard","_cognigy":{"_default":{"_adaptiveCard":{"type":"adaptiveCard","adaptiveCard":{
    "$schema":"http://adaptivecards.io/schemas/adaptive-card.json","type":"AdaptiveCard","version":"1.5","actions":[],
    "body":[{"type":"TextBlock","size":"Medium","weight":"Bolder","text":"Publish Adaptive Card Schema"},
            {"type":"Action.OpenUrl","title":"View","url":"https://adaptivecards.io"}]}}}}}"#;

#[test]
fn b4_each_documented_default_message_is_read_and_written_back_unchanged() {
    let replies: MessageData = unchanged(QUICK_REPLIES);
    let replies = replies.template().unwrap().quick_replies.as_ref().unwrap();
    let replies = replies.quick_replies.as_ref().unwrap();
    let kinds = replies.iter().map(|reply| reply.content_type.as_ref());
    let expected = [
        ButtonType::Postback,
        ButtonType::PhoneNumber,
        ButtonType::TriggerIntent,
    ];
    assert!(kinds.eq(expected.iter().map(Some)));
    assert_eq!(replies[2].intent_name.as_deref(), Some("Intent Name"));
    assert!(replies.iter().all(|reply| reply.other.is_empty()));

    let gallery: MessageData = unchanged(GALLERY);
    let gallery = gallery.template().unwrap().gallery.as_ref().unwrap();
    assert!(gallery.other.is_empty());
    assert_eq!(gallery.items.as_ref().unwrap().len(), 2);
    assert!(
        gallery
            .items
            .iter()
            .flatten()
            .all(|item| item.other.is_empty())
    );

    let buttons: MessageData = unchanged(BUTTONS);
    let buttons = buttons.template().unwrap().buttons.as_ref().unwrap();
    let last = buttons.buttons.as_ref().unwrap().last().unwrap();
    assert_eq!(last.kind, Some(ButtonType::TriggerIntent));
    assert!(last.other.is_empty());

    let list: MessageData = unchanged(LIST);
    let list = list.template().unwrap().list.as_ref().unwrap();
    assert_eq!(list.button.as_ref().unwrap().condition.as_deref(), Some(""));
    assert!(
        list.items
            .iter()
            .flatten()
            .all(|item| item.other.is_empty())
    );

    let audio: MessageData = unchanged(AUDIO);
    let audio = audio.template().unwrap().audio.as_ref().unwrap();
    assert_eq!(
        audio.audio_url.as_deref(),
        Some("https://audio.test/test.wav")
    );
    let image: MessageData = unchanged(IMAGE);
    assert!(
        image
            .template()
            .unwrap()
            .image
            .as_ref()
            .unwrap()
            .image_url
            .is_some()
    );
    let video: MessageData = unchanged(VIDEO);
    assert!(
        video
            .template()
            .unwrap()
            .video
            .as_ref()
            .unwrap()
            .video_url
            .is_some()
    );
    let card: MessageData = unchanged(ADAPTIVE_CARD);
    let card = card.template().unwrap().adaptive_card.as_ref().unwrap();
    assert_eq!(card.adaptive_card.as_ref().unwrap()["version"], "1.5");
}

#[test]
fn b4_messages_in_the_form_of_messenger_are_read_and_written_back_unchanged() {
    for channel in ["_webchat", "_facebook"] {
        let json = json!({"_cognigy": {channel: {"message": {"text": "Hello World", "quick_replies": [
            {"content_type": "text", "condition": "", "title": "Hi", "image_url": "", "payload": "Hi"}]}}}});
        let data: MessageData = unchanged(&json.to_string());
        let cognigy = data.cognigy.unwrap();
        let message = cognigy
            .webchat
            .or(cognigy.facebook)
            .unwrap()
            .message
            .unwrap();
        let reply = &message.quick_replies.unwrap()[0];
        assert_eq!(reply.content_type.as_deref(), Some("text"));
        assert!(reply.other.is_empty());
    }

    let data: MessageData = unchanged(
        r#"{"_cognigy":{"syncWebchatWithFacebook":true,"_webchat":{"message":{"attachment":{"type":"template","payload":{
            "template_type":"list","top_element_style":"large","elements":[
              {"title":"One","subtitle":"","image_url":"https://example.com/1.png","image_alt_text":"one","buttons":null,
               "default_action":{"type":"web_url","url":"https://example.com"}}],
            "buttons":[{"title":"More","type":"web_url","url":"https://example.com","payload":"",
               "messenger_extensions":false,"webview_height_ratio":"full"}]}}}}}}"#,
    );
    let message = data.cognigy.unwrap().webchat.unwrap().message.unwrap();
    let attachment = message.attachment.unwrap();
    assert_eq!(attachment.kind, MessengerAttachmentType::Template);
    let payload = attachment.payload.unwrap();
    assert!(payload.other.is_empty());
    assert!(payload.buttons.unwrap()[0].other.is_empty());

    let data: MessageData = unchanged(
        r#"{"_cognigy":{"_webchat":{"message":{"attachment":{"type":"video","payload":
            {"url":"https://example.com/v.mp4","altText":"","captionsUrl":"https://example.com/v.vtt"}}}}}}"#,
    );
    let message = data.cognigy.unwrap().webchat.unwrap().message.unwrap();
    assert!(
        message
            .attachment
            .unwrap()
            .payload
            .unwrap()
            .captions_url
            .is_some()
    );
}

#[test]
fn b4_webchat3_events_keep_what_is_null() {
    let data: MessageData = unchanged(
        r#"{"_cognigy":{"_webchat3":{"type":"queueUpdate","payload":
            {"position":3,"estimatedWaitTime":null,"alternativeText":null}}}}"#,
    );
    let event = data.cognigy.unwrap().webchat3.unwrap();
    assert_eq!(event.kind, Webchat3EventType::QueueUpdate);
    let mut payload = event.payload.unwrap();
    assert_eq!(payload.position, Some(3.into()));
    assert_eq!(payload.estimated_wait_time, None);

    // A field that is set is written once, in place of its null.
    payload.estimated_wait_time = Some(60.into());
    let text = serde_json::to_string(&payload).unwrap();
    assert_eq!(text.matches("estimatedWaitTime").count(), 1);
    assert!(text.contains(r#""estimatedWaitTime":60"#), "{text}");

    let data: MessageData = unchanged(
        r#"{"_cognigy":{"_webchat3":{"type":"liveAgentEvent","payload":{"text":"Agent joined","action":"joined","agentName":"Ada"}}}}"#,
    );
    let payload = data.cognigy.unwrap().webchat3.unwrap().payload.unwrap();
    assert_eq!(payload.agent_name.as_deref(), Some("Ada"));
}

#[test]
fn b4_plugins_are_typed_by_their_type() {
    let data: MessageData = unchanged(
        r#"{"_plugin":{"type":"date-picker","data":{"eventName":"Calendar","locale":"en","enableTime":"true","defaultDate":"",
            "mode":"single","wantDisable":false,"enable_disable":null,"function_enable_disable":"","minDate":"","maxDate":"",
            "openPickerButtonText":"Single date","cancelButtonText":"","submitButtonText":"Confirm","time_24hr":"","dateFormat":"",
            "defaultHour":12,"defaultMinute":30,"hourIncrement":1,"minuteIncrement":5,"noCalendar":false,"weekNumbers":true}}}"#,
    );
    let plugin = data.plugin.unwrap();
    assert_eq!(plugin.kind, PluginType::DatePicker);
    let picker: DatePicker = plugin.data_as().unwrap();
    assert_eq!(picker.week_numbers, Some(true));
    // Only the null is left over.
    assert_eq!(picker.other.keys().collect::<Vec<_>>(), ["enable_disable"]);
    assert_eq!(Plugin::date_picker(&picker), plugin);

    let data: MessageData = unchanged(
        r#"{"_plugin":{"type":"x-app","data":{"sessionUrl":"https://example.com/s","openButtonLabel":"Open","immediateOpen":true,"headerTitle":"Form"}}}"#,
    );
    let app: XApp = data.plugin.unwrap().data_as().unwrap();
    assert_eq!(app.immediate_open, Some(true));
    let data: MessageData =
        unchanged(r#"{"_plugin":{"type":"x-app-submit","data":{"success":true}}}"#);
    assert_eq!(data.plugin.unwrap().kind, PluginType::XAppSubmit);
    let data: MessageData = unchanged(r#"{"_plugin":{"type":"adaptivecards"}}"#);
    assert_eq!(data.plugin.unwrap().kind, PluginType::AdaptiveCards);
    let data: MessageData =
        unchanged(r#"{"_plugin":{"type":"of-the-customer","data":[1,{"a":null}]}}"#);
    assert_eq!(
        data.plugin.unwrap().kind,
        PluginType::Other("of-the-customer".into())
    );
}

#[test]
fn b4_control_commands_attachments_and_event_messages_are_typed() {
    let data: MessageData = unchanged(
        r#"{"_cognigy":{"controlCommands":[{"type":"setRating","parameters":{"rating":-1,"comment":"slow","showRatingStatus":false}},
            {"type":"later","parameters":"anything"}]}}"#,
    );
    let commands = data.cognigy.unwrap().control_commands.unwrap();
    assert_eq!(commands[0].kind, ControlCommandType::SetRating);
    let rating: Rating = commands[0].parameters_as().unwrap();
    assert_eq!(rating.rating, Some(Number::from(-1)));
    assert_eq!(ControlCommand::set_rating(&rating), commands[0]);

    let data: MessageData = unchanged(
        r#"{"attachments":[{"runtimeFileId":"1234","mimeType":"application/pdf","size":893,"status":"scanned",
            "url":"https://example.com/sample.pdf","fileName":"sample.pdf"}]}"#,
    );
    let file = &data.attachments.unwrap()[0];
    assert_eq!(file.status, Some(ScanStatus::Scanned));
    assert!(file.other.is_empty());

    for (name, kind) in [
        ("user-connected", EventMessageType::UserConnected),
        ("user-disconnected", EventMessageType::UserDisconnected),
    ] {
        let json = json!({"_cognigy": {"event": {"type": name}}}).to_string();
        let data: MessageData = unchanged(&json);
        assert_eq!(data.event().unwrap().kind, kind);
    }
}

#[test]
fn what_is_not_known_survives_at_every_level() {
    let data: MessageData = unchanged(
        r#"{"mine":{"b":[1,2.5,1e300,18446744073709551615,-3],"a":null},"_cognigy":{"_alexa":{"response":{}},"_default":{
            "_new":{},"_buttons":{"type":"buttons","new":1,"buttons":[{"id":0.6868293520794431,"type":"later","x":{"y":1}}]}}}}"#,
    );
    let cognigy = data.cognigy.as_ref().unwrap();
    assert!(cognigy.other.contains_key("_alexa"));
    let buttons = data.template().unwrap().buttons.as_ref().unwrap();
    let button = &buttons.buttons.as_ref().unwrap()[0];
    assert_eq!(button.kind, Some(ButtonType::Other("later".into())));
    assert_eq!(button.kind.as_ref().unwrap().to_string(), "later");
    // The platform's own ids are fractions, with all their digits.
    assert!(
        serde_json::to_string(button)
            .unwrap()
            .contains("0.6868293520794431")
    );
}

#[test]
fn builders_write_what_the_documentation_shows() {
    let built = [
        MessageData::from(
            QuickReplies::new("Quick Reply Text")
                .reply(QuickReply::postback("Button 1", "Postback 1"))
                .reply(QuickReply::phone_number("Button 2", "+49123456"))
                .reply(QuickReply::trigger_intent("Button 3", "Intent Name")),
        ),
        MessageData::from(Gallery::new([Item::new("Card")
            .subtitle("Subtitle")
            .image("https://example.com/1.svg", "one")
            .button(Button::web_url("Open", "https://example.com"))])),
        MessageData::from(
            Buttons::new("Text with Buttons").button(Button::phone_number("Call", "+491234567")),
        ),
        MessageData::from(List::new(
            [Item::new("List Item 1")],
            Button::postback("Separate Button from List", "Postback value"),
        )),
        MessageData::from(Audio::new("https://audio.test/test.wav")),
        MessageData::from(Image::new("https://testURL.test/image.jpeg")),
        MessageData::from(Video::new("https://www.youtube.com/watch?v=iGc3fekZQOw")),
        MessageData::from(AdaptiveCard::new(json!({"type": "AdaptiveCard"}))),
    ];
    let expected = [
        json!({"_quickReplies": {"type": "quick_replies", "text": "Quick Reply Text", "quickReplies": [
            {"id": 1, "contentType": "postback", "payload": "Postback 1", "title": "Button 1"},
            {"id": 2, "contentType": "phone_number", "payload": "+49123456", "title": "Button 2"},
            {"id": 3, "contentType": "trigger_intent", "payload": "", "title": "Button 3", "intentName": "Intent Name"}]}}),
        json!({"_gallery": {"type": "carousel", "items": [{"id": 1, "title": "Card", "subtitle": "Subtitle",
            "imageUrl": "https://example.com/1.svg", "imageAltText": "one",
            "buttons": [{"id": 1, "type": "web_url", "title": "Open", "payload": "", "url": "https://example.com"}]}]}}),
        json!({"_buttons": {"type": "buttons", "text": "Text with Buttons", "buttons": [
            {"id": 1, "type": "phone_number", "title": "Call", "payload": "+491234567"}]}}),
        json!({"_list": {"type": "list", "items": [{"title": "List Item 1", "subtitle": "", "imageUrl": ""}],
            "button": {"type": "postback", "condition": "", "payload": "Postback value", "title": "Separate Button from List"}}}),
        json!({"_audio": {"type": "audio", "audioUrl": "https://audio.test/test.wav"}}),
        json!({"_image": {"type": "image", "imageUrl": "https://testURL.test/image.jpeg"}}),
        json!({"_video": {"type": "video", "videoUrl": "https://www.youtube.com/watch?v=iGc3fekZQOw"}}),
        json!({"_adaptiveCard": {"type": "adaptiveCard", "adaptiveCard": {"type": "AdaptiveCard"}}}),
    ];
    for (built, default) in built.iter().zip(expected) {
        let written = serde_json::to_value(built).unwrap();
        assert_eq!(written, json!({"_cognigy": {"_default": default}}));
    }
}

fn delivery(output: &str) -> WebhookDelivery {
    let body = format!(
        r#"{{"userId":"user123","sessionId":"session123","AIOutput":{{"text":"hi","traceId":"t","source":"bot"{output}}}}}"#
    );
    WebhookDelivery::from_bytes(body).unwrap()
}

#[test]
fn a_delivery_has_a_typed_view_of_its_data() {
    let with = delivery(&format!(r#","data":{GALLERY}"#));
    let data = MessageData::of(&with).unwrap();
    assert!(data.template().unwrap().gallery.is_some());

    for without in ["", r#","data":null"#, r#","data":{}"#] {
        let data = MessageData::of(&delivery(without)).unwrap();
        assert_eq!(data, MessageData::default(), "{without}");
    }
}

#[test]
fn data_that_does_not_fit_is_an_error_that_names_the_field_and_quotes_nothing() {
    let cases = [
        (
            r#"{"_cognigy":{"_default":{"_buttons":{"text":["secret"]}}}}"#,
            "_buttons.text",
        ),
        (
            r#"{"_cognigy":{"_webchat3":{"payload":{}}}}"#,
            "_webchat3.type",
        ),
        (r#"{"_cognigy":"secret"}"#, "_cognigy"),
        (
            r#"{"attachments":[{"fileName":"a","fileName":"secret"}]}"#,
            "fileName",
        ),
        (
            r#"{"attachments":[{"fileName":null,"fileName":"secret"}]}"#,
            "fileName",
        ),
        (r#"["secret"]"#, "data"),
    ];
    for (data, field) in cases {
        let with = delivery(&format!(r#","data":{data}"#));
        let error = MessageData::of(&with).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(field), "{data}: {message}");
        assert!(!message.contains("secret"), "{message}");
        // The text is still there for a type of one's own.
        assert_eq!(with.data(), Some(data));
    }
}

#[test]
fn debug_shows_no_data() {
    let data: MessageData = unchanged(QUICK_REPLIES);
    let shown = format!("{data:?} {:?}", data.template().unwrap().quick_replies);
    assert!(shown.contains("quick_replies"), "{shown}");
    assert!(
        !shown.contains("Postback 1") && !shown.contains("Quick Reply Text"),
        "{shown}"
    );
}

/// JSON whose names are those of messages, and others.
fn any_data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_-]{0,12}".prop_map(Value::from),
    ];
    let name = select(vec![
        "_cognigy",
        "_default",
        "_webchat",
        "_facebook",
        "_webchat3",
        "_plugin",
        "_buttons",
        "_quickReplies",
        "_gallery",
        "_list",
        "_image",
        "buttons",
        "items",
        "attachments",
        "controlCommands",
        "event",
        "message",
        "attachment",
        "type",
        "text",
        "title",
        "id",
        "payload",
        "position",
        "size",
        "button",
        "other",
        "x",
    ]);
    leaf.prop_recursive(6, 48, 5, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(name.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_data_that_is_read_is_written_back_unchanged(data in any_data()) {
        let text = data.to_string();
        if let Ok(typed) = serde_json::from_str::<MessageData>(&text) {
            let written = serde_json::to_string(&typed).unwrap();
            let written: Value = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(written, serde_json::from_str::<Value>(&text).unwrap());
        }
    }
}
