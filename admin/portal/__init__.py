"""The developer portal: one folder for each group of pages, with its routes, its views and its templates.

A new group, for example ``billing``:

1. ``billing/__init__.py``: one line that says what its pages are for.
2. ``billing/views.py``: a frozen struct for each page and each form (``forbid_unknown_fields``); pure. What a form or an
   address can get wrong is an ``AccessError`` with a sentence and, as ``param``, the field.
3. ``billing/routes.py``: handlers with ``access=Access.…``, which is who may come in; a POST also says with ``back=``
   which page it stands on. ``read_form`` reads, ``page`` answers (``secret=True`` keeps it out of caches), ``redirect``
   goes on with a notice. The account is always ``visitor_in(request).inside.person.account_id``, and is in every query.
4. ``billing/templates/*.html``: extend ``web/inside.html``, use the components of ``web/macros.html``, put ``csrf(visitor)``
   into every form, ``_("…")`` around every sentence. No inline script or style.
5. Join it in ``groups.py``, and in the navigation of ``web/inside.html``.
6. Say its sentences in Indonesian in ``web/locale/id/nusagate.po``; a test names those that are missing.

The tests of access and of the browser take the routes from the application, so they see the new pages by themselves.
"""
