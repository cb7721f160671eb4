"""What an account's owner is told when a limit comes near, in Indonesian or English. No address is in these letters."""

from datetime import datetime

import msgspec

from gateway.clock import format_utc

INDONESIAN = "id"
WHOLE_PERCENT = 100


class Letter(msgspec.Struct, frozen=True):
    """A letter as plain text."""

    subject: str
    body: str


def cap_letter(
    language: str | None, *, percent: int, used: str, cap: str, unit: str, resets_at: datetime
) -> Letter:
    """Tell how much of a cap is used; ``unit`` is the currency, or empty for tokens."""
    reset, is_reached = format_utc(resets_at), percent == WHOLE_PERCENT
    if language == INDONESIAN:
        return Letter(
            "Batas pengeluaran Anda tercapai"
            if is_reached
            else f"{percent} % batas pengeluaran Anda terpakai",
            _letter_id(
                f"akun Nusagate Anda telah memakai {used} dari {cap} {unit or 'token'} yang Anda izinkan untuk bulan ini.",
                f"Permintaan ditolak mulai sekarang sampai {reset}. Anda dapat menaikkan batasnya di halaman tagihan."
                if is_reached
                else f"Bila batasnya tercapai, permintaan ditolak sampai {reset}.",
            ),
        )
    return Letter(
        "Your spending cap is reached" if is_reached else f"{percent} % of your spending cap is used",
        _letter_en(
            f"your Nusagate account has used {used} of the {cap} {unit or 'tokens'} that you allowed for this month.",
            f"Requests are refused from now on, until {reset}. You can raise the cap on the billing page."
            if is_reached
            else f"When the cap is reached, requests are refused until {reset}.",
        ),
    )


def plan_letter(language: str | None, *, percent: int, used: str, limit: str, resets_at: datetime) -> Letter:
    """Tell how much of the month's tokens is used."""
    reset, is_reached = format_utc(resets_at), percent == WHOLE_PERCENT
    if language == INDONESIAN:
        return Letter(
            "Token bulan ini habis" if is_reached else f"{percent} % token bulan ini terpakai",
            _letter_id(
                f"akun Nusagate Anda telah memakai {used} dari {limit} token bulan ini.",
                f"Permintaan ditolak mulai sekarang sampai {reset}, dan tidak ada yang ditagih. Paket yang lebih "
                "besar memberi ruang seketika; pilihlah di halaman paket."
                if is_reached
                else f"Bila habis, permintaan ditolak sampai {reset}, dan tidak ada yang ditagih.",
            ),
        )
    return Letter(
        "This month's tokens are used up" if is_reached else f"{percent} % of this month's tokens are used",
        _letter_en(
            f"your Nusagate account has used {used} of the {limit} tokens of this month.",
            f"Requests are refused from now on, until {reset}, and nothing is billed. A larger plan gives room at "
            "once; choose one on the page of plans."
            if is_reached
            else f"When they are used up, requests are refused until {reset}, and nothing is billed.",
        ),
    )


def _letter_en(*paragraphs: str) -> str:
    return _join("Hello,", *paragraphs, "The page of limits is where you choose when you get this mail.")


def _letter_id(*paragraphs: str) -> str:
    return _join("Halo,", *paragraphs, "Di halaman batas Anda memilih kapan surat ini dikirim.")


def _join(*paragraphs: str) -> str:
    return "\n\n".join((*paragraphs, "Nusagate")) + "\n"
