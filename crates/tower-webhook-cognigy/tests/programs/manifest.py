"""Where the programs of the documents are: which lines of which document, with the SHA-256 of their text; the
indentation of each line, in steps of four spaces, where the document lost it; and *mends*, which are exact
replacements. Those called "to run" are always made, the others where a test asks for them. Each quotes the bug that it
mends from part A of the contract. Nothing else of a program is changed.
"""

PROGRAMS = {
    # The complete example: retry policies.
    "s0": {
        "document": "000",
        "parts": [
            {
                "lines": (270, 515),
                "sha256": "b9fa3d482a97af16e042179b9c821d727ea7b36f9a9022ca9e1f20ddfdae46ff",
                "indent": (
                    "000000000000122222212323333222222011111111112321112321234444444201212121"
                    "101112310122221222323123212320122222221233332122222334333333421223332223"
                    "322232232212333333222212332344443333233122234544444445555544443444442333"
                    "222201111111111122222221122212"
                ),
            },
        ],
        "mends": {
            # "`response.request.copy()` does not exist in httpx": the first 429 ends in AttributeError.
            "429": [("response.request.copy()", "response.request")],
            # "`str(e)` after the loop": it ends in UnboundLocalError, and neither alert nor dead letter is reached.
            "exhausted": [
                ("attempt {attempt} failed: {e}\")", "attempt {attempt} failed: {e}\"); error = e"),
                ("\"final_error\": str(e)", "\"final_error\": str(error)"),
            ],
        },
    },
    # The complete example: the router's application.
    "s1": {
        "document": "001",
        "parts": [
            {
                "lines": (349, 527),
                "sha256": "37d39e4bcc7e357cba4e1ed9c5d44e4f67ba7f35d702e50ae97c2091a6e4c5d8",
            },
        ],
    },
    # Steps 1 to 3: tokens, registration, validation, delivery.
    "s1-steps": {
        "document": "001",
        "parts": [
            {
                "lines": (22, 67),
                "sha256": "b911f32486661c539b055b55a9414468b2959fc87a0dc63aaa60c810827c17a1",
            },
            {
                "lines": (79, 122),
                "sha256": "3dfcc9854e9d5b9933eadd6a54855824b0d505dd8a8cbdafa5ca26ceb9e1fb3e",
            },
            {
                "lines": (132, 168),
                "sha256": "23616cb5b5be2cece43075543153c179d8dc0100eff71daee163e1018b261dc7",
            },
            {
                "lines": (178, 243),
                "sha256": "78684a0d618564714cb49970f84f3e413d0fbf29d060387111da4d55a8511a71",
            },
        ],
        "mends": {
            # "`model_dump()` keeps `HttpUrl` objects": JSON cannot be made of them, so nothing is registered.
            "json": [("definition.model_dump(by_alias=True)", "definition.model_dump(mode=\"json\", by_alias=True)")],
        },
    },
    # All steps, and what the complete example does with them.
    "s2": {
        "document": "002",
        "parts": [
            {
                "lines": (14, 29),
                "sha256": "52b66b10cc0b2a875f095732dfdc58c7b3f59b89b9b6a29bcd00ff00096471e4",
                "indent": "0000112233332221",
            },
            {
                "lines": (33, 80),
                "sha256": "9f4c26551b7f6b28c4982585b78aa41467b7231e4de5316df6889a49c273f549",
                "indent": "000011011011011111111111112321223333333444322332",
            },
            {
                "lines": (83, 133),
                "sha256": "218b8b73cd9d2435756666c6e522275381876f84becea16ea3db93b99cf4bdd4",
                "indent": "000001111101122222334233332123333321233333212333332",
            },
            {
                "lines": (136, 188),
                "sha256": "12206e4af34825544c2ddea7711977843fc0276ce8602eba4712119f06fd3c5b",
                "indent": "00000011110111123344344444443332333332331011111232331",
            },
            {
                "lines": (191, 226),
                "sha256": "23fe4969300927b56467ece7028c97a2f86ce0896d85072db27676c2cf6e741f",
                "indent": "000001111011212222323332221201122221",
            },
            {
                "lines": (229, 266),
                "sha256": "8e1202803edfae5531d4358ae3fd7ab52f24f5a3c8a33eb03b29f5fdeb612033",
                "indent": "00001111111101111011233332212201111111",
            },
            {
                "lines": (269, 344),
                "sha256": "1e5fb612135aa5d5c665533a43882074ffa2461751c702d161af8330210a96fb",
                "indent": (
                    "000001110001112333333333323333333111222332332212211111233444444443344443"
                    "1101"
                ),
            },
        ],
    },
    # The complete example: the application and its worker.
    "s3": {
        "document": "003",
        "parts": [
            {
                "lines": (251, 455),
                "sha256": "37e399059ee0b4d49441b63dfa93090b3cf3f25d2d364381d100d7cdc1f2dbad",
            },
        ],
        "mends": {
            "to run": [
                # "`add_span_processor( … pass )` is a syntax error": a processor that does nothing.
                ("    pass  # Replace", "    __import__(\"opentelemetry.sdk.trace\").sdk.trace.SpanProcessor()  # Replace"),
                # "pybreaker has no `expected_exception`": TypeError when it is started.
                ("    expected_exception=httpx.HTTPStatusError\n", ""),
            ],
            # "`httpx.post` never raises HTTPStatusError": every 500 counts as success.
            "raise": [("                        httpx.post,\n", "                        lambda *args, **named: httpx.post(*args, **named).raise_for_status(),\n")],
            # "CircuitBreakerError is re-raised too": pybreaker raises it for the failure that opens it, the third.
            "fallback": [("    reset_timeout=15,\n", "    reset_timeout=15,\n    throw_new_error_on_trip=False,\n")],
        },
    },
    # The setup: tokens and registration.
    "s4-setup": {
        "document": "004",
        "parts": [
            {
                "lines": (15, 60),
                "sha256": "2dbb4270d01f3bb6073252e0d4aa68b573fb813c4a450c6cca5887f3913041de",
                "indent": "0000000011122221122344432011111222221122323332",
            },
        ],
    },
    # The complete example: the application.
    "s4": {
        "document": "004",
        "parts": [
            {
                "lines": (220, 370),
                "sha256": "5577eeb4d8d5b1a5e5204cdd269ffafedac51a1942dbc0513ff6a1749025f4e4",
                "indent": (
                    "000000000000000000000000000001111100000111111111232320011211110112333222"
                    "221201112345554442334341012222211222210000121221211221122122100111121112"
                    "2122011"
                ),
            },
        ],
        "mends": {
            # "`json.dumps(rawPayload=model_dump())`": a datetime cannot be written as JSON, so no dead letter is sent.
            "dead letter": [("\"rawPayload\": event.model_dump()\n", "\"rawPayload\": event.model_dump(mode=\"json\")\n")],
        },
    },
}
