"""The API's own page at ``/api/docs``, served without any outside address."""

from __future__ import annotations

from importlib import resources

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from backend.policies import docs_policy

ASSETS = "/api/docs/assets"


def install(app: FastAPI) -> None:
    """Serve Swagger UI for the application's OpenAPI description.

    Only the files of the package ``fastapi-swagger`` (Swagger UI, Apache-2.0) are used, not its code.
    """
    with resources.as_file(resources.files("fastapi_swagger.resources")) as folder:
        app.mount(ASSETS, StaticFiles(directory=folder), name="docs-assets")

    @app.get("/api/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        root = request.scope.get("root_path", "")
        page = get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title="WaRA Studio API",
            swagger_js_url=f"{root}{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{root}{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{root}{ASSETS}/favicon-32x32.png",
            swagger_ui_parameters={"validatorUrl": None},
        )
        page.headers["Content-Security-Policy"] = docs_policy(bytes(page.body))
        return page
