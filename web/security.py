"""Which headers keep a browser from doing what no page of ours asks for?"""

from __future__ import annotations

from flask import Flask, Response
from secure import Secure
from secure.headers import (
    ContentSecurityPolicy,
    CrossOriginOpenerPolicy,
    CrossOriginResourcePolicy,
    ReferrerPolicy,
    XContentTypeOptions,
    XFrameOptions,
)


def guard_pages(app: Flask) -> None:
    """Put the headers on every page of `app`. Scripts, styles and pictures come from this server or not at all."""
    policy = (
        ContentSecurityPolicy()
        .default_src("'self'")
        .base_uri("'none'")
        .object_src("'none'")
        .form_action("'self'")
        .frame_ancestors("'none'")
    )
    headers = Secure(
        csp=policy,
        xcto=XContentTypeOptions().nosniff(),
        referrer=ReferrerPolicy().no_referrer(),
        xfo=XFrameOptions().deny(),
        coop=CrossOriginOpenerPolicy().same_origin(),
        corp=CrossOriginResourcePolicy().same_origin(),
    ).header_items()

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.extend(headers)
        # Pages show what is the visitor's own. Static files come with a rule of their own.
        response.headers.setdefault("Cache-Control", "no-store")
        return response


# What a browser needs to know of an answer that is no page (OWASP's REST security cheat sheet): it is shown nowhere
# and loads nothing; and no cache on the way may keep it, for it is a tenant's own.
API_HEADERS = [
    *Secure(
        csp=ContentSecurityPolicy().default_src("'none'").frame_ancestors("'none'"),
        xcto=XContentTypeOptions().nosniff(),
    ).header_items(),
    ("Cache-Control", "no-store"),
]


def guard_api(app: Flask) -> None:
    """Put API_HEADERS on every answer of `app`."""

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.extend(API_HEADERS)
        return response
