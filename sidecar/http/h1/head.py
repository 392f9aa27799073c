"""The functions that read and write heads: in Cython where it was compiled (`_head`), else in Python."""

from __future__ import annotations

from sidecar.http.h1.head_python import RequestHead, ResponseHead, check_beginning

try:
    from sidecar.http.h1._head import join_request, join_response, read_request_head, read_response_head
except ImportError:
    from sidecar.http.h1.head_python import (
        join_request,
        join_response,
        read_request_head,
        read_response_head,
    )

__all__ = [
    "RequestHead",
    "ResponseHead",
    "check_beginning",
    "join_request",
    "join_response",
    "read_request_head",
    "read_response_head",
]
