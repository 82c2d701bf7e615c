"""Sockets whose room lives on another node. The edge has the socket, the owner has the room; mail goes between them.

Mail can be lost. Whoever notices closes the socket with 1012; the page resumes and its `welcome` brings the whole
state again, so nothing needs to be repeated here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from signaling.actor import RoomActor
from signaling.codec import ProtocolError, decode, encode
from signaling.directory import Directory
from signaling.effects import SERVICE_RESTART
from signaling.messages import Error
from signaling.node_messages import Cut, Deliver, Frame, Lost, Mail
from signaling.post import Post
from signaling.roster import Member
from signaling.sockets import SocketLink


class RemoteLink:
    """The owner's end: a Link whose socket is on `node`."""

    def __init__(self, identifier: str, node: str, post: Post, closed: Callable[[RemoteLink], None]) -> None:
        self.id = identifier
        self.node = node
        self.participant: str | None = None
        self._post = post
        self._closed = closed

    def send(self, frame: bytes) -> None:
        self._post.send(self.node, Deliver(link=self.id, data=frame))

    def close(self, code: int) -> None:
        self._post.send(self.node, Cut(link=self.id, code=code))
        self._closed(self)


class Owned:
    """The owner's side: links of other nodes' sockets into our rooms."""

    def __init__(self, directory: Directory, post: Post) -> None:
        self._post = post
        self._links: dict[str, tuple[RemoteLink, RoomActor]] = {}
        post.handle(Frame, self._frame)
        post.handle(Lost, lambda mail: self._lose(mail.link))
        post.on_undelivered(self._undelivered)
        directory.on_gone(self._gone)
        directory.on_gap(self._gap)

    def link(self, identifier: str, node: str, actor: RoomActor) -> RemoteLink:
        link = RemoteLink(identifier, node, self._post, self._closed)
        self._links[identifier] = (link, actor)
        return link

    def _closed(self, link: RemoteLink) -> None:
        self._links.pop(link.id, None)

    def _frame(self, mail: Frame) -> None:
        link, actor = self._links.get(mail.link, (None, None))
        if link is None or actor is None:
            # From before a takeover or a gap: that page must come in anew.
            self._post.send(mail.node, Cut(link=mail.link, code=SERVICE_RESTART))
            return
        with contextlib.suppress(ProtocolError):  # the edge has decoded it before
            actor.receive(link, decode(mail.data))

    def _lose(self, identifier: str) -> None:
        link, actor = self._links.pop(identifier, (None, None))
        if link is not None and actor is not None:
            actor.lost(link)

    def _undelivered(self, _node: str, mail: Mail) -> None:
        if isinstance(mail, Deliver | Cut):
            self._lose(mail.link)

    def _gone(self, member: Member) -> None:
        for identifier, (link, _) in list(self._links.items()):
            if link.node == member.node:
                self._lose(identifier)

    def _gap(self) -> None:
        for link, actor in list(self._links.values()):
            actor.lost(link)
            link.close(SERVICE_RESTART)


class Edge:
    """The edge's side: our sockets in other nodes' rooms."""

    def __init__(self, directory: Directory, post: Post) -> None:
        self._node = directory.own.node
        self._post = post
        self._links: dict[str, tuple[str, SocketLink]] = {}
        post.handle(Deliver, self._deliver)
        post.handle(Cut, self._cut)
        post.on_undelivered(self._undelivered)
        directory.on_gone(self._gone)
        directory.on_gap(self._gap)

    def add(self, link: SocketLink, node: str) -> None:
        self._links[link.id] = (node, link)

    def drop(self, link: SocketLink) -> None:
        self._links.pop(link.id, None)

    def receive(self, link: SocketLink, text: str) -> None:
        node, _ = self._links.get(link.id, ("", link))
        if node:
            self._post.send(node, Frame(link=link.id, node=self._node, data=text))

    def lost(self, link: SocketLink) -> None:
        node, _ = self._links.pop(link.id, ("", link))
        if node:
            self._post.send(node, Lost(link=link.id))

    def _deliver(self, mail: Deliver) -> None:
        _, link = self._links.get(mail.link, ("", None))
        if link is not None:
            link.send(mail.data)

    def _cut(self, mail: Cut) -> None:
        _, link = self._links.pop(mail.link, ("", None))
        if link is not None:
            link.close(mail.code)

    def _undelivered(self, _node: str, mail: Mail) -> None:
        """The owner cannot be reached now. The socket stays: media flows, and the page's next tries may get through."""
        if not isinstance(mail, Frame):
            return
        _, link = self._links.get(mail.link, ("", None))
        if link is None:
            return
        request = None
        with contextlib.suppress(ProtocolError):
            request = getattr(decode(mail.data), "request", None)
        text = "This did not get through; try again in a second."
        link.send(encode(Error(code="unavailable", message=text, request=request)))

    def _gone(self, member: Member) -> None:
        for node, link in list(self._links.values()):
            if node == member.node:
                self.drop(link)
                link.close(SERVICE_RESTART)

    def _gap(self) -> None:
        for _, link in list(self._links.values()):
            self.lost(link)
            link.close(SERVICE_RESTART)

    def close_all(self) -> None:
        """This process stops; the rooms go on elsewhere, and the pages resume through another node."""
        self._gap()
