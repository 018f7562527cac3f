"""The receiver that the documents describe, as small as it can be: a base64 signature over the raw
body, the event's fields checked, one insert-if-absent in SQLite, and the answer.

SQLite is left as the documents leave it: every insert is a commit, in a rollback journal, flushed
to the disk before the answer. `--wal` gives it a write-ahead log, flushed likewise.

    receiver.py PORT DATABASE [--wal]
"""

import base64
import datetime
import enum
import hashlib
import hmac
import os
import sqlite3
import sys

import fastapi
import pydantic
import uvicorn

SECRET = os.environ["COGNIGY_WEBHOOK_SECRET"].encode()

database = sqlite3.connect(sys.argv[2], isolation_level=None, check_same_thread=False)
if "--wal" in sys.argv:
    database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=FULL")
database.execute(
    "CREATE TABLE IF NOT EXISTS webhook_events (event_id TEXT PRIMARY KEY,"
    " raw_payload TEXT NOT NULL, processed_at TEXT DEFAULT CURRENT_TIMESTAMP,"
    " status TEXT DEFAULT 'pending')"
)


class EventType(str, enum.Enum):
    DIALOG_STARTED = "DIALOG_STARTED"
    USER_INPUT_RECEIVED = "USER_INPUT_RECEIVED"
    PROFILE_UPDATED = "PROFILE_UPDATED"
    DIALOG_ENDED = "DIALOG_ENDED"


class Event(pydantic.BaseModel):
    eventId: str
    timestamp: datetime.datetime
    type: EventType
    payload: dict
    externalId: str | None = None
    userId: str | None = None


app = fastapi.FastAPI()


@app.post("/webhooks/cognigy")
async def receive(request: fastapi.Request):
    body = await request.body()
    expected = base64.b64encode(hmac.new(SECRET, body, hashlib.sha256).digest()).decode()
    signature = request.headers.get("x-cognigy-signature", "")
    if not hmac.compare_digest(expected, signature):
        raise fastapi.HTTPException(status_code=401, detail="Invalid HMAC signature")
    event = Event.model_validate_json(body)
    inserted = database.execute(
        "INSERT INTO webhook_events (event_id, raw_payload, status) VALUES (?, ?, 'processing')"
        " ON CONFLICT (event_id) DO NOTHING",
        (event.eventId, body.decode()),
    )
    if inserted.rowcount == 0:
        return {"status": "accepted", "duplicate": True}
    return {"status": "accepted"}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
