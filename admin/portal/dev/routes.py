"""The mail that would have been sent, and the page of components; both exist in ``nusagate dev`` only."""

from litestar import Response, get

from admin.mail import store as mail
from admin.portal.dev.views import Components, MailPage, MailRow, linked
from admin.web.admission import Access
from admin.web.pages import page
from admin.web.parts import PageRequest, parts_of

MAILS_SHOWN = 30


@get("/dev/mail", access=Access.ANYBODY)
async def mail_page(request: PageRequest) -> Response[str]:
    """Show the latest mail."""
    parts = parts_of(request)
    own = parts.settings.base.public_url
    rows = [
        MailRow(mail=letter, body=linked(letter.letter.body, own))
        for letter in await mail.list_latest(parts.db, MAILS_SHOWN)
    ]
    return page(request, "dev/mail.html", MailPage(rows), secret=True)


@get("/dev/components", access=Access.ANYBODY)
async def components_page(request: PageRequest) -> Response[str]:
    """Show every component in every state."""
    return page(request, "dev/components.html", Components())


ROUTES = [mail_page, components_page]
