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

# The other packages are imported where they are used: some take a second to load.


def sign_hubspot(secret, seconds, body):
    from hubspot.utils.signature import Signature

    signature = Signature.get_signature(
        secret, body, "v3", "https://hooks.example.com/hook?a=b", "POST", f"{seconds}000"
    )
    return {
        "x-hubspot-signature-v3": signature,
        "x-hubspot-request-timestamp": f"{seconds}000",
    }


def sign_inngest(secret, seconds, body):
    from inngest._internal import net

    signed = net.sign_request(body.encode(), secret, seconds)
    return {"x-inngest-signature": signed}


def sign_box(secret, seconds, body):
    from box_sdk_gen.internal.utils import compute_webhook_signature

    time = datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone(datetime.timedelta(hours=-7)))
    headers = {
        "box-signature-version": "1",
        "box-signature-algorithm": "HmacSHA256",
        "box-delivery-timestamp": time.isoformat(),
    }
    signature = compute_webhook_signature(body, headers, secret)
    return {**headers, "box-signature-secondary": signature}


class Request:
    """What `http_message_signatures` wants to know of a request."""

    method = "POST"
    url = "https://hooks.example.com/hook?a=b"

    def __init__(self, headers):
        self.headers = headers


def message_signatures(secret):
    """The algorithm of a secret, and the place where it is found under any id."""
    from http_message_signatures import HTTPSignatureKeyResolver, algorithms

    class Keys(HTTPSignatureKeyResolver):
        def resolve_public_key(self, key_id):
            return secret.encode()

        resolve_private_key = resolve_public_key

    is_pem = secret.startswith("-----BEGIN")
    algorithm = algorithms.ED25519 if is_pem else algorithms.HMAC_SHA256
    return {"signature_algorithm": algorithm, "key_resolver": Keys()}


def sign_message_signatures(secret, seconds, body):
    from http_message_signatures import HTTPMessageSigner

    request = Request({})
    created = datetime.datetime.fromtimestamp(seconds)
    signer = HTTPMessageSigner(**message_signatures(secret))
    signer.sign(request, key_id="acme", created=created, nonce="n", body=body.encode())
    return request.headers


def verify_message_signatures(secret, headers, body):
    from http_message_signatures import HTTPMessageVerifier

    verifier = HTTPMessageVerifier(**message_signatures(secret))
    covered = ("@method", "@target-uri", "content-digest")
    [result] = verifier.verify(Request(headers), body=body.encode(), require_components=covered)
    assert result.body == body.encode()


def sign_github(secret, seconds, body):
    from githubkit.webhooks import sign

    return {"x-hub-signature-256": sign(secret, body.encode())}


def sign_slack(secret, seconds, body):
    from slack_sdk.signature import SignatureVerifier

    signature = SignatureVerifier(secret).generate_signature(timestamp=str(seconds), body=body)
    return {"x-slack-signature": signature, "x-slack-request-timestamp": str(seconds)}


def sign(request):
    scheme, secret, body = request["scheme"], request["secret"], request["body"]
    identity, seconds = request.get("id"), request["timestamp"]
    if f"sign_{scheme}" in globals():
        return {"headers": globals()[f"sign_{scheme}"](secret, seconds, body)}
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
        if f"verify_{scheme}" in globals():
            globals()[f"verify_{scheme}"](secret, headers, body)
        elif scheme == "standardwebhooks":
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
