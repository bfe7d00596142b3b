"""Git as people know it: each project as a read-only remote over smart HTTP, and its whole history as a bundle.

The way of a fetch: `api` takes the request, `protocol` parses it, `negotiation` finds what is common and what is
missing (over `walks` through the commits and `contents` of their trees), `packs` streams the objects.
"""
