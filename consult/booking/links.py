"""The links of a booking. Their secrets are derived by the vault from row ids; only the ICS link shows one in its path
(calendar programs fetch it) and that opens nothing but the ICS."""

from __future__ import annotations

from consult.privacy.vault import Vault

JOIN = "join"
MANAGE = "manage"
ICS = "ics"
HOLD = "hold"


def join_token(vault: Vault, participant_id: str) -> str:
    return vault.token(JOIN, participant_id)


def manage_token(vault: Vault, booking_id: str) -> str:
    return vault.token(MANAGE, booking_id)


def ics_mac(vault: Vault, booking_id: str) -> str:
    return vault.capability(ICS, booking_id)


def join_url(public_url: str, vault: Vault, consultation_id: str, participant_id: str) -> str:
    return f"{public_url}/join/{consultation_id}#{join_token(vault, participant_id)}"


def manage_url(public_url: str, vault: Vault, booking_id: str) -> str:
    return f"{public_url}/manage/{booking_id}#{manage_token(vault, booking_id)}"


def ics_url(public_url: str, vault: Vault, booking_id: str) -> str:
    return f"{public_url}/ics/{booking_id}/{ics_mac(vault, booking_id)}.ics"


def desk_url(public_url: str, consultation_id: str) -> str:
    """The specialist's page of a consultation: opened by signing in, so it carries no secret."""
    return f"{public_url}/desk/consultations/{consultation_id}"
