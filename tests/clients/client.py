"""Signs and verifies with the packages that senders and receivers really use.

Reads one JSON request a line, writes one JSON answer a line:

    {"op": "sign", "scheme": "svix", "secret": "whsec_...", "id": "msg_1",
     "timestamp": 1700000000, "body": "..."}            -> {"headers": {...}}
    {"op": "verify", "scheme": "svix", "secret": "whsec_...", "headers": {...},
     "body": "..."}                                      -> {"ok": true} or {"ok": false, "why": ...}
"""

import datetime
import json
import sys

import standardwebhooks
import stripe
import svix


def sign(request):
    scheme, secret, body = request["scheme"], request["secret"], request["body"]
    identity, seconds = request.get("id"), request["timestamp"]
    moment = datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc)
    if scheme == "standardwebhooks":
        signature = standardwebhooks.Webhook(secret).sign(identity, moment, body)
        prefix = "webhook"
    elif scheme == "svix":
        signature = svix.Webhook(secret).sign(identity, moment, body)
        prefix = "svix"
    elif scheme == "stripe":
        signature = stripe.WebhookSignature._compute_signature(f"{seconds}.{body}", secret)
        return {"headers": {"stripe-signature": f"t={seconds},v1={signature}"}}
    else:
        raise ValueError(f"no scheme {scheme!r}")
    return {
        "headers": {
            f"{prefix}-id": identity,
            f"{prefix}-timestamp": str(seconds),
            f"{prefix}-signature": signature,
        }
    }


def verify(request):
    scheme, secret, body = request["scheme"], request["secret"], request["body"]
    headers = request["headers"]
    try:
        if scheme == "standardwebhooks":
            standardwebhooks.Webhook(secret).verify(body, headers)
        elif scheme == "svix":
            svix.Webhook(secret).verify(body, headers)
        elif scheme == "stripe":
            stripe.WebhookSignature.verify_header(
                body, headers["stripe-signature"], secret, tolerance=300
            )
        else:
            raise ValueError(f"no scheme {scheme!r}")
    except Exception as error:  # the test wants to see every refusal, of whatever type
        return {"ok": False, "why": f"{type(error).__name__}: {error}"}
    return {"ok": True}


for line in sys.stdin:
    request = json.loads(line)
    answer = sign(request) if request["op"] == "sign" else verify(request)
    print(json.dumps(answer), flush=True)
