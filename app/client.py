"""The only way from the page to the backend: HTTP, with every failure turned into one plain sentence."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode
from weakref import WeakKeyDictionary

import httpx
from gradio.context import LocalContext

API_PREFIX = "/api/v1"
# The demo's images take about five seconds; a busy or small machine may need many times that.
DRAWING_SECONDS = 300.0
_NO_ANSWER = "The server does not answer. Check that it is running; this page tries again by itself."


class BackendProblem(Exception):
    """The backend refused, or did not answer.

    Args:
        sentence: what was wrong, the value seen and what to do, fit for the page as it is.
        status: HTTP status, 0 when there was no answer.
        code: short stable name of the kind of problem.
    """

    def __init__(self, sentence: str, *, status: int = 0, code: str = "no-answer") -> None:
        self.sentence = sentence
        self.status = status
        self.code = code
        super().__init__(sentence)

    @classmethod
    def from_response(cls, response: httpx.Response) -> BackendProblem:
        """Read a problem+json answer; an answer of another form becomes a sentence of its own."""
        try:
            body = response.json()
        except ValueError:
            body = None
        if isinstance(body, dict) and (body.get("detail") or body.get("title")):
            sentence = str(body.get("detail") or body["title"])
            return cls(sentence, status=response.status_code, code=str(body.get("code", "problem")))
        return cls(
            f"The server could not do this (answer {response.status_code}). Try again; the server's log says more.",
            status=response.status_code,
            code="problem",
        )


def browser_url(*parts: str, **params: str | None) -> str:
    """Return the address at which the browser itself finds an API resource (figures, downloads)."""
    # Relative to the page, which may stand at a path of a proxy.
    path = "/".join(quote(str(part), safe="") for part in parts)
    query = urlencode({key: value for key, value in params.items() if value})
    return f"{API_PREFIX[1:]}/{path}" + (f"?{query}" if query else "")


class Backend:
    """Calls of the HTTP interface, one method a resource.

    Args:
        api_url: where the server listens, with or without ``/api/v1``, e.g. ``"http://127.0.0.1:7860"``.
        certificate: the server's own (PEM), where it speaks https; no other is then believed.
    """

    def __init__(self, api_url: str, certificate: str | Path | None = None) -> None:
        base = api_url.rstrip("/")
        self.base = base if base.endswith(API_PREFIX) else base + API_PREFIX
        self._trust: ssl.SSLContext | bool = True
        if certificate is not None:
            self._trust = ssl.create_default_context(cafile=str(certificate))
            # It is this very certificate that is known, whoever signed it and for whatever name.
            self._trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            self._trust.check_hostname = False
        self._demo: dict[str, Any] | None = None
        # An httpx client belongs to the event loop that first used it, and tests run more than one loop.
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            # trust_env off: a proxy meant for the internet must never see calls to this machine.
            timeout = httpx.Timeout(60.0, connect=5.0)
            self._clients[loop] = httpx.AsyncClient(timeout=timeout, trust_env=False, verify=self._trust)
        return self._clients[loop]

    async def close(self) -> None:
        """Close the connections of the running event loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _send(self, method: str, *parts: str, **options: Any) -> httpx.Response:
        url = "/".join([self.base, *(_segment(part) for part in parts)])
        try:
            response = await self._client().request(method, url, headers=_signed_in(), **options)
        except httpx.TimeoutException as error:
            raise BackendProblem("The server took too long to answer. Try again in a moment.") from error
        except httpx.RequestError as error:
            raise BackendProblem(_NO_ANSWER) from error
        if not response.is_success:  # a redirection is none of this interface's answers either
            raise BackendProblem.from_response(response)
        return response

    async def _json(self, *parts: str, **params: Any) -> Any:
        query = {key: value for key, value in params.items() if value is not None}
        return _body(await self._send("GET", *parts, params=query))

    async def health(self) -> dict[str, Any]:
        """Version, device, disk and the notice about backbones."""
        return cast("dict[str, Any]", await self._json("health"))

    async def me(self) -> dict[str, Any]:
        """Who is signed in."""
        return cast("dict[str, Any]", await self._json("me"))

    async def tokens(self) -> list[dict[str, Any]]:
        """One's own tokens, without their secrets."""
        return cast("list[dict[str, Any]]", await self._json("me", "tokens"))

    async def accounts(self) -> list[dict[str, Any]]:
        """All accounts; for admins."""
        return cast("list[dict[str, Any]]", await self._json("accounts"))

    async def audit(self, limit: int) -> list[dict[str, Any]]:
        """The newest lines of the audit log; for admins."""
        return cast("list[dict[str, Any]]", await self._json("audit", limit=limit))

    async def backbones(self) -> list[dict[str, Any]]:
        """Backbones, best first."""
        return cast("list[dict[str, Any]]", (await self._json("backbones"))["items"])

    async def datasets(self) -> list[dict[str, Any]]:
        """Data sets, newest first."""
        return _newest_first((await self._json("datasets"))["items"])

    async def arrived(self, dataset_id: str) -> dict[str, Any]:
        """What of a data set that is being sent has arrived, and what was refused."""
        return cast("dict[str, Any]", await self._json("datasets", dataset_id, "arrived"))

    async def dataset(self, dataset_id: str) -> dict[str, Any]:
        """One data set."""
        return cast("dict[str, Any]", await self._json("datasets", dataset_id))

    async def report(self, dataset_id: str) -> dict[str, Any]:
        """Counts, split, leaks and what was passed over."""
        return cast("dict[str, Any]", await self._json("datasets", dataset_id, "report"))

    async def images(self, dataset_id: str, *, cls: str | None, limit: int, offset: int) -> dict[str, Any]:
        """A page of a data set's images, with addresses of thumbnails."""
        return cast(
            "dict[str, Any]", await self._json("datasets", dataset_id, "images", cls=cls, limit=limit, offset=offset)
        )

    async def preview_mapping(self, dataset_id: str, mapping: dict[str, Any] | None) -> dict[str, Any]:
        """What labels and patients a description of their place would give; without one, what is set or guessed."""
        answer = await self._send("POST", "datasets", dataset_id, "mapping", "preview", json=mapping)
        return cast("dict[str, Any]", _body(answer))

    async def set_mapping(self, dataset_id: str, mapping: dict[str, Any]) -> None:
        """Take a data set's labels and patients from there."""
        await self._send("PUT", "datasets", dataset_id, "mapping", json=mapping)

    async def add_demo(self) -> dict[str, Any]:
        """Have the server draw the demo data set, or name the one that it has."""
        answer = await self._send("POST", "datasets", "demo", timeout=DRAWING_SECONDS)
        return cast("dict[str, Any]", _body(answer))

    async def demo(self) -> dict[str, Any]:
        """The demo's classes, and images that no model of it has seen. It never changes, so it is asked for once."""
        if self._demo is None:
            self._demo = await self._json("demo")
        return self._demo

    async def delete_dataset(self, dataset_id: str) -> None:
        """Delete a data set and its images."""
        await self._send("DELETE", "datasets", dataset_id)

    async def decide(self, dataset_id: str, finding: str, fix: str) -> None:
        """Fix a finding of a data set's report."""
        await self._send("POST", "datasets", dataset_id, "decisions", json={"finding": finding, "fix": fix})

    async def undo_decision(self, dataset_id: str, number: str) -> None:
        """Take a decision about a data set back, by its place in the report's list."""
        await self._send("DELETE", "datasets", dataset_id, "decisions", number)

    async def flagged(self, dataset_id: str) -> list[dict[str, Any]]:
        """Images of a data set in which text may stand, with addresses at which they are shown large."""
        return cast("list[dict[str, Any]]", (await self._json("datasets", dataset_id, "text"))["items"])

    async def start_job(self, order: dict[str, Any]) -> dict[str, Any]:
        """Start (or queue) a training."""
        return cast("dict[str, Any]", _body(await self._send("POST", "jobs", json=order)))

    async def estimate(self, order: dict[str, Any]) -> dict[str, Any]:
        """How long an order would take with each preset, and whether it fits into memory."""
        return cast("dict[str, Any]", _body(await self._send("POST", "estimates", json=order, timeout=120.0)))

    async def jobs(self) -> list[dict[str, Any]]:
        """Trainings, newest first."""
        return _newest_first((await self._json("jobs"))["items"])

    async def cancel_job(self, job_id: str) -> None:
        """Ask a training to stop."""
        await self._send("POST", "jobs", job_id, "cancel")

    async def pause_job(self, job_id: str) -> None:
        """Ask a training to rest, and to keep what it has learned."""
        await self._send("POST", "jobs", job_id, "pause")

    async def resume_job(self, job_id: str) -> None:
        """Let a paused training go on."""
        await self._send("POST", "jobs", job_id, "resume")

    async def move_job(self, job_id: str, to: str) -> None:
        """Move a training that waits ``up``, ``down`` or to the ``first`` place."""
        await self._send("POST", "jobs", job_id, "move", json={"to": to})

    async def delete_job(self, job_id: str) -> None:
        """Remove an ended training from the list."""
        await self._send("DELETE", "jobs", job_id)

    async def models(self) -> list[dict[str, Any]]:
        """Trained models, newest first."""
        return _newest_first((await self._json("models"))["items"])

    async def model(self, model_id: str) -> dict[str, Any]:
        """One model, and what the person who asks may do with it."""
        return cast("dict[str, Any]", await self._json("models", model_id))

    async def card(self, model_id: str) -> str:
        """The model card as Markdown."""
        return (await self._send("GET", "models", model_id, "card")).text

    async def evaluation(self, model_id: str, *, criterion: str | None = None) -> dict[str, Any]:
        """All that is known of a model's test images; with another rule for the operating point than the one in use."""
        return cast("dict[str, Any]", await self._json("models", model_id, "evaluation", criterion=criterion))

    async def use_operating_point(self, model_id: str, criterion: str | None) -> None:
        """Let a model answer by another operating point from now on; None goes back to the training's own."""
        await self._send("PUT", "models", model_id, "operating-point", json={"criterion": criterion})

    async def compare(self, first: str, second: str) -> dict[str, Any]:
        """The difference of two models' test AUROC on the same images, first minus second."""
        return cast("dict[str, Any]", await self._json("models", "compare", a=first, b=second))

    async def costs(self, model_ids: list[str]) -> list[dict[str, Any]]:
        """What models cost beside what they are worth."""
        return cast("list[dict[str, Any]]", (await self._json("models", "compare", "costs", model=model_ids))["items"])

    async def batches(self) -> list[dict[str, Any]]:
        """Batches of classified images, newest first."""
        return cast("list[dict[str, Any]]", (await self._json("batches"))["items"])

    async def batch(self, batch_id: str) -> dict[str, Any]:
        """One batch: how far it is and what its answers add up to."""
        return cast("dict[str, Any]", await self._json("batches", batch_id))

    async def batch_rows(self, batch_id: str, *, limit: int) -> list[dict[str, Any]]:
        """The first answers of a batch."""
        return cast("list[dict[str, Any]]", (await self._json("batches", batch_id, "rows", limit=limit))["items"])

    async def batch_patients(self, batch_id: str) -> dict[str, Any]:
        """The first answers for patients, and by which rule images were put together."""
        return cast("dict[str, Any]", await self._json("batches", batch_id, "patients"))

    async def delete_batch(self, batch_id: str) -> None:
        """Delete a batch and its answers."""
        await self._send("DELETE", "batches", batch_id)

    async def delete_model(self, model_id: str) -> None:
        """Delete a model."""
        await self._send("DELETE", "models", model_id)

    async def subband_energy(self, model_id: str, *, of: str = "update", cls: str | None = None) -> dict[str, Any]:
        """Shares of energy by layer and subband, and how to read the figure of these options."""
        return cast(
            "dict[str, Any]", await self._json("models", model_id, "analysis", "subband-energy", of=of, cls=cls)
        )

    async def singular_spectrum(
        self, model_id: str, *, layer: str | None = None, compare: str | None = None
    ) -> dict[str, Any]:
        """Singular values of each layer's update (or of one), and how to read the figure of these options."""
        path = ("models", model_id, "analysis", "singular-spectrum")
        return cast("dict[str, Any]", await self._json(*path, layer=layer, compare=compare))

    async def class_scales(self, model_id: str) -> dict[str, Any]:
        """Which scales of the update each class used, and how to read the figure."""
        return cast("dict[str, Any]", await self._json("models", model_id, "analysis", "class-scales"))


def _signed_in() -> dict[str, str]:
    """The cookie of whoever looks at the page: what the page asks, it asks in their name and with their rights."""
    request = LocalContext.request.get(None)
    cookie = None if request is None else request.headers.get("cookie")
    return {"cookie": cookie, "sec-fetch-site": "same-origin"} if cookie else {}


def _segment(part: str) -> str:
    """One part of an address; a dot or two stay a name, and do not lead one level up."""
    quoted = quote(str(part), safe="")
    return quoted.replace(".", "%2E") if quoted in (".", "..") else quoted


def _body(response: httpx.Response) -> Any:
    """The JSON of an answer; an answer that holds none did not come from this server's interface."""
    try:
        return response.json()
    except ValueError as error:
        raise BackendProblem(
            "The server's answer could not be read. Check that this address leads to WaRA Studio, then reload the page."
        ) from error


def _newest_first(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(items, key=lambda item: str(item.get("created") or ""), reverse=True)
