"""What an object store's refusals mean, without repeating what they say: it may hold secrets."""

from __future__ import annotations

import re
from typing import NamedTuple

# obstore has exceptions for some answers only, and folds different ones into them. The service's own words stand in
# their text, among addresses and headers, of which nothing is passed on.
STATUS = r"non-2xx status code: ([0-9]{3})"
CODE = r"<Code>\s*([A-Za-z]{1,60})\s*</Code>"
DELETING = r"Bulk delete request failed .*\(code: (?:([0-9]{3})|([A-Za-z]{1,60}))\)"
NO_CONNECTION = r"kind: Connect\b"
INSTANCE_METADATA = "169.254.169.254"
REDIRECT = "redirect without LOCATION"

ABSENT_OBJECT = {"NoSuchKey", "BlobNotFound", "NoSuchVersion"}
ABSENT_PLACE = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "ContainerDisabled", "ResourceNotFound"}
REFUSED_CONDITION = {"PreconditionFailed", "ConditionNotMet", "TargetConditionNotMet", "BlobAlreadyExists", ""}
CONFLICT = {"ConditionalRequestConflict", "OperationAborted", *REFUSED_CONDITION}
CREDENTIALS = {
    "AuthenticationFailed",
    "AuthorizationFailure",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidAuthenticationInfo",
    "InvalidToken",
    "NoAuthenticationInformation",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}


class Answer(NamedTuple):
    """An answer that is no success: the HTTP status, 0 where there was none, and the service's word for it.

    `sent` is False where the request certainly never left. `keyless` tells that there was nothing to sign it with.
    """

    status: int = 0
    code: str = ""
    sent: bool = True
    keyless: bool = False

    @classmethod
    def of(cls, error: Exception) -> Answer:
        from obstore import exceptions as known

        implied: dict[type[Exception], int] = {
            known.AlreadyExistsError: 409,
            known.NotModifiedError: 304,
            known.PermissionDeniedError: 403,
            known.PreconditionError: 412,
            known.UnauthenticatedError: 401,
            FileNotFoundError: 404,
        }
        text = str(error)
        if (deleting := re.search(DELETING, text)) is not None:
            status, code = deleting[1], deleting[2]
        else:
            status, code = (found and found[1] for found in (re.search(STATUS, text), re.search(CODE, text)))
        return cls(
            status=int(status) if status else implied.get(type(error), 301 if REDIRECT in text else 0),
            code=code or "",
            sent=re.search(NO_CONNECTION, text) is None,
            keyless=INSTANCE_METADATA in text,
        )

    def __str__(self) -> str:
        if self.keyless:
            return "there are no credentials"
        if not self.status:
            return "no proper answer" if self.sent else "no connection"
        return f"{self.status} {self.code}".rstrip()

    @property
    def nothing_there(self) -> bool:
        return self.status == 404 and self.code in ABSENT_OBJECT

    @property
    def place_missing(self) -> bool:
        return self.code in ABSENT_PLACE

    @property
    def wrong_credentials(self) -> bool:
        return self.keyless or self.status == 401 or self.code in CREDENTIALS

    @property
    def forbidden(self) -> bool:
        return self.status == 403 or self.code == "AccessDenied"

    @property
    def wrong_region(self) -> bool:
        return self.status in (301, 307) or self.code in REGION

    @property
    def misconfigured(self) -> bool:
        """Whether only somebody who changes settings can help."""
        return self.place_missing or self.wrong_credentials or self.wrong_region or self.forbidden

    @property
    def condition_refused(self) -> bool:
        """Whether a write that expects a version was refused for what is there; certain, as it was sent once."""
        return (self.status == 412 and self.code in REFUSED_CONDITION) or self.nothing_there

    @property
    def conflict(self) -> bool:
        """Whether a write was refused because of another one, which only reading back tells more of."""
        return self.status in (409, 412) and self.code in CONFLICT

    @property
    def certainly_refused(self) -> bool:
        """Whether a write was certainly not applied."""
        return not self.sent or self.misconfigured or (400 <= self.status < 500 and self.status != 408)

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed a moment later."""
        return not self.misconfigured and (self.status in (0, 408, 429) or self.status >= 500)
