"""Send a message to the webhook and to the mail server; each has a deadline.

The timeouts of http.client and smtplib limit one read. A server that sends a byte now and then could hold its
caller for long, so each runs in a thread of its own, and is left alone after the deadline.
"""

import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import partial
from pathlib import Path

import orjson

from gateway.config.operation import Mail, Notify, Webhook
from gateway.diagnosis.bounded import HangsError, within
from gateway.errors import NotifyError
from gateway.notify.message import Message

_SUCCESS = range(200, 300)


def send(notify: Notify, message: Message) -> Iterator[tuple[str, str]]:
    """Send to each endpoint; yield its name, and why it failed, or "" if it took the message."""
    if notify.webhook is not None:
        yield "webhook", _attempt(partial(_post, notify.webhook, message, notify.timeout_seconds), notify)
    if notify.mail is not None:
        yield "mail", _attempt(partial(_mail, notify.mail, message, notify.timeout_seconds), notify)


def _attempt(call: Callable[[], None], notify: Notify) -> str:
    try:
        within(notify.timeout_seconds, call)
    except HangsError:
        return f"no answer within {notify.timeout_seconds:g} s"
    except NotifyError as error:
        return str(error)
    return ""


def _post(webhook: Webhook, message: Message, seconds: float) -> None:
    headers = {"Content-Type": "application/json", "User-Agent": "mini-pacs"}
    if webhook.authorization_file is not None:
        headers["Authorization"] = _secret(webhook.authorization_file)
    request = urllib.request.Request(  # noqa: S310  the model admits http and https only
        webhook.url, data=orjson.dumps(message.document), headers=headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310  see above
            status = response.status
    except urllib.error.HTTPError as error:
        error.close()
        raise NotifyError(f"it answered {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        raise NotifyError(str(getattr(error, "reason", None) or error)) from error
    if status not in _SUCCESS:
        raise NotifyError(f"it answered {status}")


def _mail(mail: Mail, message: Message, seconds: float) -> None:
    letter = EmailMessage()
    letter["Subject"] = message.subject.replace("\n", " ")
    letter["From"] = mail.sender
    letter["To"] = ", ".join(mail.recipients)
    letter["Date"] = formatdate(localtime=True)
    letter["Message-ID"] = make_msgid()
    letter.set_content(message.text)
    try:
        with smtplib.SMTP(mail.host, mail.port, timeout=seconds) as server:
            if mail.starttls == "required":
                server.starttls(context=ssl.create_default_context())
            if mail.username is not None and mail.password_file is not None:
                server.login(mail.username, _secret(mail.password_file))
            server.send_message(letter)
    except (OSError, smtplib.SMTPException) as error:
        raise NotifyError(f"{type(error).__name__}: {error}") from error
    except ValueError as error:  # it quotes the text, which may be the password
        raise NotifyError("user name, password or an address has a character that is not ASCII") from error


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise NotifyError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise NotifyError(f"{path}: it is no UTF-8 text") from error
