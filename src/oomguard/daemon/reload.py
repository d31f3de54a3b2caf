"""When the policy changed, and what it is now: combines the watch and the child that reads."""

import time
from collections.abc import Callable

from oomguard.core.errors import OomguardError
from oomguard.core.host import Host
from oomguard.core.policy import Policy, layers
from oomguard.daemon.loop import Loop
from oomguard.daemon.policy_child import DEADLINE_SECONDS, PolicyChild, PolicyRejectedError
from oomguard.daemon.policy_watch import LONGEST_SETTLE_SECONDS, SETTLE_SECONDS, PolicyWatch
from oomguard.reconcile.policy_cache import Copy, PolicyCache, fits

LOOK_SECONDS = 5.0
"""How often to check for an edit where inotify does not report it."""

RETRY_SECONDS = 10.0
LONGEST_RETRY_SECONDS = 300.0
"""Pause after a reading that failed although the policy may be valid: the child was killed, or waited too
long for a CPU or for memory. Each pause is twice the previous one."""

FOLLOW_SECONDS = 600.0
"""Minimum time between readings because RAM, swap or huge pages changed a little: with a balloon, MemTotal
of a virtual machine changes all the time."""

USERS_SECONDS = 10.0
"""Minimum time between readings because the users of the host changed: any user can change /etc/passwd all
the time (chsh)."""

USERS_SHARE = 20
"""It is at least so many times the CPU time that the last reading took: 5 % of a CPU."""


class Reloader:
    """Reads the policy: once at the start, and in the background after an edit or on demand.

    `adopt` gets each valid policy, `reject` the error of one that is not, `limited` what works less well, and
    why. `observe` returns the facts of this host.
    """

    def __init__(
        self,
        path: str,
        loop: Loop,
        *,
        adopt: Callable[[Policy], None],
        reject: Callable[[OomguardError], None],
        limited: Callable[[str, str], None],
        cache: PolicyCache,
        observe: Callable[[], Host | None],
    ) -> None:
        self._path = path
        self._observe = observe
        self._host: Host | None = None
        """The facts of the host when the policy was last read."""
        self._followed_at = self._users_at = float("-inf")
        self._took_seconds = 0.0
        """CPU time of the last reading."""
        self._is_for_users = False
        """Whether it is done only because users changed."""
        self._answer: Policy | str | None = None
        """What it led to: the policy, or why that was rejected."""
        self._cache = cache
        self._reusable: tuple[str, Policy] | None = None
        """The last policy that was read, and its key."""
        self._loop = loop
        self._adopt = adopt
        self._reject = reject
        self._limited = limited
        self._child: PolicyChild | None = None
        self._moved_at: float | None = None
        self._failure = ""
        self._retry_seconds = RETRY_SECONDS
        self._layers = layers(path)
        self._watch = PolicyWatch(self._layers)
        loop.define("reload", self._reload_if_changed)
        loop.define("policy-child", self._give_up)
        loop.define("policy-retry", lambda _: self.reload())
        self._listen()

    def first(self, is_stopping: Callable[[], bool] = lambda: False) -> Policy:
        """Return the policy, from the cache if that has it, and wait for it otherwise.

        OomguardError: there is none, and why. StoppedError: `is_stopping`, after a signal.
        """
        self._host = self._observe()
        key = self._cache.key(self._layers, time.time_ns())
        policy = self._cached(key)
        if policy is None:
            try:
                child = self._read(key)
            except OSError as error:
                raise _not_started(error) from error
            child.wait(self._loop, is_stopping)
            policy = child.finish()
            self._keep(child, policy)
        self._answer = policy
        return policy

    def reload(self, *, is_for_users: bool = False) -> None:
        """Read the policy again unless it is certainly the same; adopt it in any case.

        `is_for_users`: only users changed, so nothing happens if the policy is the same: whoever changes them
        all the time must not make the daemon start over.
        """
        self._is_for_users = is_for_users
        self._expect_failure()
        self._drop_child()
        self._unwatch()
        self._watch.renew()  # before it is read: an edit between the two is seen
        self._listen()
        key = self._cache.key(self._layers, time.time_ns())
        known = self._reusable
        try:
            self._host = self._observe()
            is_known = known is not None and key == known[0] and fits(known[1], self._host)
            self._child = None if is_known else self._read(key)
        except OSError as error:
            self._failed(_not_started(error))
            return
        if self._child is None:
            assert known is not None
            self._hand_on(known[1])
            return
        self._loop.set("policy-retry", None)
        self._loop.watch(self._child.fd, self._receive)
        self._loop.set("policy-child", self._child.deadline)

    def check_edits(self, now: float) -> None:
        """Read the policy again soon if it changed without an event, as when its folder was replaced.

        Also store the policy in force, if that failed before.
        """
        self._limited("policy cache", self._cache.store_again())
        if self._child is None and self._moved_at is None and self._has_changed():
            self._loop.set("reload", now + SETTLE_SECONDS)

    def follow_host(self, policy: Policy, now: float) -> None:
        """Read the policy again if it depends on a fact of the host that has changed since.

        After a small change, only if the last change is FOLLOW_SECONDS ago.
        """
        if not policy.facts or self._host is None or self._child is not None:
            return
        host, known = self._observe(), {name: getattr(self._host, name) for name in policy.facts}
        if host is None or not host.differs(known):
            return
        if now >= self._followed_at + FOLLOW_SECONDS or not host.is_near(known):
            self._followed_at = now
            self.reload()

    def close(self) -> None:
        """Stop watching, and end a reading in progress."""
        self._drop_child()
        self._unwatch()
        self._watch.close()

    def _read(self, key: str) -> PolicyChild:
        deadline = time.monotonic() + DEADLINE_SECONDS
        return PolicyChild(self._path, self._host, deadline=deadline, copy=Copy(key))

    def _cached(self, key: str) -> Policy | None:
        policy, trouble = None, ""
        try:
            policy = self._cache.load(key, self._host)
        except (OomguardError, OSError, ValueError) as error:
            trouble = f"{self._cache.path} is ignored: {error}"
        self._limited("policy cache", trouble)
        if policy is not None:
            self._reusable = (key, policy)
            self._follow_users(policy)
        return policy

    def _keep(self, child: PolicyChild, policy: Policy) -> None:
        """Remember what the policy is made from, if all of it is visible."""
        self._reusable = None
        self._follow_users(policy)
        if child.copy.key and child.answer.header.get("users_are_local"):
            self._reusable = (child.copy.key, policy)
            self._limited("policy cache", self._cache.store(child.copy))

    def _follow_users(self, policy: Policy) -> None:
        """Read a policy that names users again when those of this host change: uids are in it."""
        self._watch.follows_users = any(terms.users for terms in policy.terms)

    def _has_changed(self) -> bool:
        """Return whether the policy or its users changed; wait also for edits that can be noticed by now."""
        has_changed = self._watch.has_changed()
        self._listen()
        return has_changed

    def _listen(self) -> None:
        listening = self._watch.fileno()
        if listening is not None and not self._loop.watches(listening):
            self._loop.watch(listening, self._moved)
        blind = self._watch.blind
        limit = blind and f"oomguard checks the policy for edits every {LOOK_SECONDS:.0f} s: {blind}"
        self._limited("policy edits", limit)
        if blind:
            self._loop.set_earlier("reload", time.monotonic() + LOOK_SECONDS)

    def _unwatch(self) -> None:
        listening = self._watch.fileno()
        if listening is not None:
            self._loop.unwatch(listening)

    def _moved(self) -> None:
        self._watch.drain()
        now = time.monotonic()
        if self._moved_at is None:
            self._moved_at = now
        # Do not wait forever for a folder in which something always changes.
        self._loop.set("reload", min(now + SETTLE_SECONDS, self._moved_at + LONGEST_SETTLE_SECONDS))

    def _reload_if_changed(self, now: float) -> None:
        self._moved_at = None
        self._loop.set("reload", now + LOOK_SECONDS)  # also if there is no memory to find out
        has_changed = self._has_changed()
        is_for_users = has_changed and not self._watch.has_edits()
        if is_for_users:
            pause = max(USERS_SECONDS, USERS_SHARE * self._took_seconds)
            if self._child is not None or now < self._users_at + pause:
                return
            self._users_at = now
        if not self._watch.blind:
            self._loop.set("reload", None)
        if has_changed:
            self.reload(is_for_users=is_for_users)

    def _receive(self) -> None:
        assert self._child is not None
        if not self._child.receive():
            return
        self._expect_failure()
        child = self._release_child()
        try:
            policy = child.finish()
        except PolicyRejectedError as error:
            self._hand_on(error)
        except OomguardError as error:
            self._failed(error)
        else:
            if isinstance(self._answer, Policy) and policy == self._answer:
                policy = self._answer  # not twice in memory
            self._keep(child, policy)
            self._hand_on(policy)
        self._took_seconds = child.cpu_seconds

    def _give_up(self, _now: float) -> None:
        self._receive()  # during a pause at the ceiling only timers run, and the answer may be there
        if self._child is None:
            return
        self._drop_child()
        self._failed(OomguardError(f"reading the policy took more than {DEADLINE_SECONDS:.0f} s"))

    def _expect_failure(self) -> None:
        """Try again later, unless what follows succeeds: lack of memory can end it at any point."""
        self._loop.set("policy-retry", time.monotonic() + self._retry_seconds)

    def _hand_on(self, answer: Policy | OomguardError) -> None:
        """Adopt a policy, or reject it; but not again if only users changed."""
        found = answer if isinstance(answer, Policy) else answer.message
        if not (self._is_for_users and self._answer == found):
            self._answer = None  # in case it fails
            if isinstance(answer, Policy):
                self._adopt(answer)
            else:
                self._reject(answer)
            self._answer = found
        self._loop.set("policy-retry", None)
        self._failure = ""
        self._retry_seconds = RETRY_SECONDS

    def _failed(self, error: OomguardError) -> None:
        """Try again later; log the reason once."""
        self._answer = None
        self._expect_failure()
        self._retry_seconds = min(2 * self._retry_seconds, LONGEST_RETRY_SECONDS)
        if error.message != self._failure:
            self._failure = error.message
            again = OomguardError(f"{error.message}; oomguard will try again")
            self._reject(again)  # last, because it may fail for lack of memory, too

    def _drop_child(self) -> None:
        if self._child is not None:
            self._release_child().kill()

    def _release_child(self) -> PolicyChild:
        assert self._child is not None
        child, self._child = self._child, None
        self._loop.unwatch(child.fd)
        self._loop.set("policy-child", None)
        return child


def _not_started(error: OSError) -> OomguardError:
    return OomguardError(f"cannot start a process to read the policy: {error.strerror}")
