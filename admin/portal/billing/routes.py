"""The routes of billing, joined."""

from admin.portal.billing import overview, papers, plans, spending

ROUTES = [*overview.ROUTES, *plans.ROUTES, *spending.ROUTES, *papers.ROUTES]
