"""What an account's owner is told when a cap comes near, in Indonesian or English. No address is in these letters."""

from datetime import datetime

import msgspec

from gateway.clock import format_utc

INDONESIAN = "id"


class Letter(msgspec.Struct, frozen=True):
    """A letter as plain text."""

    subject: str
    body: str


def alert(
    language: str | None, *, percent: int, used: str, cap: str, unit: str, resets_at: datetime
) -> Letter:
    """Tell how much of a cap is used; ``unit`` is the currency, or empty for tokens."""
    if language == INDONESIAN:
        return _indonesian(percent, used, cap, unit or "token", format_utc(resets_at))
    return _english(percent, used, cap, unit or "tokens", format_utc(resets_at))


def _english(percent: int, used: str, cap: str, unit: str, resets_at: str) -> Letter:
    reached = percent == 100  # noqa: PLR2004 - all of it
    return Letter(
        "Your spending cap is reached" if reached else f"{percent} % of your spending cap is used",
        _join(
            "Hello,",
            f"your Nusagate account has used {used} of the {cap} {unit} that you allowed for this month.",
            f"Requests are refused from now on, until {resets_at}. You can raise the cap on the billing page."
            if reached
            else f"When the cap is reached, requests are refused until {resets_at}.",
        ),
    )


def _indonesian(percent: int, used: str, cap: str, unit: str, resets_at: str) -> Letter:
    reached = percent == 100  # noqa: PLR2004 - all of it
    return Letter(
        "Batas pengeluaran Anda tercapai" if reached else f"{percent} % batas pengeluaran Anda terpakai",
        _join(
            "Halo,",
            f"akun Nusagate Anda telah memakai {used} dari {cap} {unit} yang Anda izinkan untuk bulan ini.",
            f"Permintaan ditolak mulai sekarang sampai {resets_at}. Anda dapat menaikkan batasnya di halaman tagihan."
            if reached
            else f"Bila batasnya tercapai, permintaan ditolak sampai {resets_at}.",
        ),
    )


def _join(*paragraphs: str) -> str:
    return "\n\n".join((*paragraphs, "Nusagate")) + "\n"
