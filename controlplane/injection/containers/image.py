"""The names of images."""

from __future__ import annotations

from controlplane.injection.config import Values
from controlplane.injection.pod import JsonObject


def image(values: Values, name: str, image_type: str = "") -> JsonObject:
    """Returns the fields of a container for an image. A ``name`` with a slash is a whole image name; another
    is below the hub, with the tag. ``image_type`` is a suffix of the tag (``distroless``)."""
    if "/" not in name:
        tag = values.tag if image_type in ("", "default") else f"{values.tag}-{image_type}"
        name = f"{values.hub}/{name}:{tag}"
    policy = values.image_pull_policy
    return {"image": name} | ({} if policy is None else {"imagePullPolicy": policy.value})
