"""The volumes that our containers mount."""

from __future__ import annotations

from controlplane.injection import names
from controlplane.injection.context import TemplateContext
from controlplane.injection.pod import JsonObject


def volumes(context: TemplateContext, *, identity: bool) -> list[JsonObject]:
    """``identity``: with the folder in which an agent stores the certificate for Envoy, in memory only."""
    token = {
        "audience": names.TOKEN_AUDIENCE,
        "expirationSeconds": context.values.token_expiration_seconds,
        "path": names.TOKEN_FILE.rpartition("/")[2],
    }
    own: list[JsonObject] = [
        {"name": names.TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": names.ROOTS_VOLUME, "configMap": {"name": names.ROOTS_CONFIG_MAP}},
        {"name": names.STATE_VOLUME, "emptyDir": {}},
    ]
    if identity:
        own.append({"name": names.IDENTITY_VOLUME, "emptyDir": {"medium": "Memory"}})
    return own


def mounts(*, identity: bool = False) -> list[JsonObject]:
    own: list[JsonObject] = [
        {"name": names.TOKEN_VOLUME, "mountPath": names.TOKEN_FOLDER, "readOnly": True},
        {"name": names.ROOTS_VOLUME, "mountPath": names.ROOTS_FOLDER, "readOnly": True},
        {"name": names.STATE_VOLUME, "mountPath": names.STATE_FOLDER},
    ]
    if identity:
        own.append({"name": names.IDENTITY_VOLUME, "mountPath": names.IDENTITY_FOLDER})
    return own
