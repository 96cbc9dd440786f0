"""A page for each problem code, where the `type` of a problem leads."""

from html import escape
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse

from app.api.problems import STATUSES, problems
from app.problems import EXPLANATIONS, Code, ProblemError

router = APIRouter(prefix="/problems", tags=["problems"])


@router.get(
    "/{code}",
    response_class=HTMLResponse,
    responses=problems(Code.NOT_FOUND, Code.VALIDATION_FAILED),
)
async def explain_problem(code: Annotated[str, Path(examples=[Code.NOT_READY])]) -> str:
    """What a problem code means and what to do about it."""
    if code not in set(Code):
        raise ProblemError(Code.NOT_FOUND, f"There is no problem with the code {code!r}.")
    code = Code(code)
    explanation = EXPLANATIONS[code]
    status = STATUSES.get(code)
    met = f"HTTP status {status}" if status else "only in <code>error</code> of what has failed"
    retry = "may succeed" if explanation.retryable else "will not succeed"
    advice = escape(explanation.advice)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{code}</title>"
        f"<h1><code>{code}</code></h1><p><b>{escape(explanation.title)}</b></p><p>{advice}</p>"
        f"<p>Met as: {met}. The same request sent again {retry}.</p></html>"
    )
