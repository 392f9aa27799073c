"""A process that makes a key, signs a request for its certificate, and verifies the certificate: ``python -m
sidecar.identity.key_process``, started by `sidecar.identity.pending_key`.

It ends with its task, once or twice a day: the package `cryptography` would take 10 MB of the sidecar all the
time. The conversation is one JSON document a line: the SPIFFE id on standard input, the signing request on
standard output, the authority's answer on standard input, and the SVID, or the reason against it, on standard
output. The key leaves this process only over this pipe.
"""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

from protos.spiffe import SpiffeId
from sidecar.errors import IdentityError
from sidecar.identity.key import WorkloadKey
from sidecar.identity.svid import SignedCertificate
from sidecar.identity.verification import accept


def converse(questions: TextIO, answers: TextIO) -> None:
    key = WorkloadKey()
    spiffe_id = SpiffeId.parse(json.loads(questions.readline()))
    _write(answers, key.signing_request(spiffe_id))
    line = questions.readline()
    if line:  # the authority has not refused
        _write(answers, _verified(json.loads(line), key, spiffe_id))


def _verified(signed: Any, key: WorkloadKey, spiffe_id: SpiffeId) -> dict[str, Any]:
    answer = SignedCertificate(chain=tuple(signed["chain"]), trust_bundle=tuple(signed["trust_bundle"]))
    try:
        svid = accept(answer, key, spiffe_id, signed["now"])
    except IdentityError as error:
        return {"error": str(error)}
    return {
        "chain": svid.chain.decode(),
        "key": svid.key.decode(),
        "trust_bundle": svid.trust_bundle.decode(),
        "begins_s": svid.begins_s,
        "expires_s": svid.expires_s,
    }


def _write(answers: TextIO, document: object) -> None:
    print(json.dumps(document), file=answers, flush=True)


if __name__ == "__main__":
    converse(sys.stdin, sys.stdout)
