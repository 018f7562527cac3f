"""The receiver that the documents describe (S4, "Complete Working Example"), up to its answer: a
base64 signature over the raw body, the event's model, one upsert in SQLite, and the answer. What
the documents then do with the event, a call to a CRM before they answer, is left out: it would only
make them slower.

    receiver.py FORM PORT DATABASE

FORM is one of

    documents   as written: the body parsed and then validated, SQLAlchemy, a session an event (and
                a repeat is taken for new, because an upsert always touches a row)
    hand        the same work with less: validated from the bytes, one connection of Python's own
                sqlite3, one statement
    hand-wal    and with a write-ahead log

In each, an insert is a commit that is on the disk before the answer: SQLite's own default,
`synchronous=FULL`, which the documents leave as it is.
"""

import base64
import datetime
import hashlib
import hmac
import os
import sqlite3
import sys
import typing

import fastapi
import pydantic
import uvicorn
from fastapi.responses import JSONResponse

SECRET = os.environ["COGNIGY_WEBHOOK_SECRET"]
FORM, PORT, DATABASE = sys.argv[1:]


class CognigyEventPayload(pydantic.BaseModel):
    eventId: str
    timestamp: datetime.datetime
    type: str = pydantic.Field(
        ..., pattern="^(DIALOG_STARTED|USER_INPUT_RECEIVED|PROFILE_UPDATED|DIALOG_ENDED)$"
    )
    payload: dict[str, typing.Any]
    externalId: str | None = None
    userId: str | None = None

    @pydantic.field_validator("payload")
    @classmethod
    def validate_payload_structure(cls, v, info):
        if info.data.get("type") == "PROFILE_UPDATED" and "profile" not in v:
            raise ValueError("PROFILE_UPDATED events must contain a 'profile' object")
        if info.data.get("type") == "USER_INPUT_RECEIVED" and "input" not in v:
            raise ValueError("USER_INPUT_RECEIVED events must contain an 'input' object")
        return v


def with_sqlalchemy():
    """The documents' store."""
    from sqlalchemy import Column, DateTime, String, Text, create_engine, func
    from sqlalchemy.dialects.sqlite import insert
    from sqlalchemy.orm import declarative_base, sessionmaker

    base = declarative_base()

    class WebhookEventRecord(base):
        __tablename__ = "webhook_events"
        event_id = Column(String, primary_key=True)
        raw_payload = Column(Text, nullable=False)
        processed_at = Column(DateTime, nullable=True, default=func.now())
        status = Column(String, default="pending")

    engine = create_engine(f"sqlite:///{DATABASE}", echo=False)
    base.metadata.create_all(engine)
    session = sessionmaker(bind=engine)

    def upsert(event, _body):
        db = session()
        try:
            stmt = insert(WebhookEventRecord).values(
                event_id=event.eventId,
                raw_payload=event.model_dump_json(),
                status="processing",
            )
            stmt = stmt.on_conflict_do_update(
                index_elements=["event_id"],
                set_={"status": func.coalesce(WebhookEventRecord.status, "processing")},
            )
            result = db.execute(stmt)
            db.commit()
            return result.rowcount > 0 and result.lastrowid is not None
        finally:
            db.close()

    return upsert


def by_hand(wal):
    database = sqlite3.connect(DATABASE, isolation_level=None, check_same_thread=False)
    if wal:
        database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(
        "CREATE TABLE IF NOT EXISTS webhook_events (event_id TEXT PRIMARY KEY,"
        " raw_payload TEXT NOT NULL, processed_at TEXT DEFAULT CURRENT_TIMESTAMP,"
        " status TEXT DEFAULT 'pending')"
    )

    def insert(event, body):
        inserted = database.execute(
            "INSERT INTO webhook_events (event_id, raw_payload, status)"
            " VALUES (?, ?, 'processing') ON CONFLICT (event_id) DO NOTHING",
            (event.eventId, body.decode()),
        )
        return inserted.rowcount > 0

    return insert


AS_WRITTEN = FORM == "documents"
store = with_sqlalchemy() if AS_WRITTEN else by_hand({"hand": False, "hand-wal": True}[FORM])
app = fastapi.FastAPI()


@app.post("/webhooks/cognigy")
async def handle(request: fastapi.Request):
    signature = request.headers.get("X-Cognigy-Signature", "")
    body = await request.body()
    expected = hmac.new(SECRET.encode(), body, hashlib.sha256).digest()
    if not hmac.compare_digest(signature, base64.b64encode(expected).decode()):
        raise fastapi.HTTPException(status_code=401, detail="Invalid HMAC signature")
    try:
        if AS_WRITTEN:
            event = CognigyEventPayload.model_validate(await request.json())
        else:
            event = CognigyEventPayload.model_validate_json(body)
    except Exception as exc:
        raise fastapi.HTTPException(status_code=400, detail=f"Payload validation failed: {exc}")
    if not store(event, body):
        return JSONResponse(content={"status": "accepted", "duplicate": True})
    return JSONResponse(content={"status": "accepted"})


uvicorn.run(app, host="127.0.0.1", port=int(PORT), log_level="warning", access_log=False)
