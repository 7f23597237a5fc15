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


def register(app: Flask) -> None:
    """Put the headers on every answer of `app`. Scripts, styles and pictures come from this server or not at all."""
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
    )

    @app.after_request
    def protect(response: Response) -> Response:
        headers.set_headers(response)
        # Answers are a tenant's own: no cache on the way may keep them. Static files come with a rule of their own.
        response.headers.setdefault("Cache-Control", "no-store")
        return response
