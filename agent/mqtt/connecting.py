"""Connecting, which blocks in paho: name, TCP, TLS and WebSocket handshake, in a thread that may be left behind.

The thread lives for one attempt and has the client to itself.  It is a daemon and none of the loop's executor, for
those are waited for when the program ends, and a resolver that hangs would keep it from ending.
"""

from __future__ import annotations

import asyncio
import threading

from paho.mqtt.client import Client

__all__ = ["connect"]


async def connect(client: Client) -> None:
    """Return when ``client`` has a connection and the CONNECT is sent; raises what kept it from that.

    After a cancellation the client still belongs to the thread, which says goodbye should it get through.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    thread = threading.Thread(target=_attempt, args=(client, loop, done), name="agent.mqtt.connect", daemon=True)
    thread.start()
    await done


def _attempt(client: Client, loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
    failure: Exception | None = None
    try:
        client.reconnect()
    except Exception as error:  # noqa: BLE001 it is raised where the attempt is waited for
        failure = error
    try:
        loop.call_soon_threadsafe(_settle, client, done, failure)
    except RuntimeError:  # the loop is closed: nobody waits
        _part(client)


def _settle(client: Client, done: asyncio.Future[None], failure: Exception | None) -> None:
    if done.cancelled():
        _part(client)
    elif failure is not None:
        done.set_exception(failure)
    else:
        done.set_result(None)


def _part(client: Client) -> None:
    client.disconnect()
    connection = client.socket()
    if connection is not None:
        connection.close()
