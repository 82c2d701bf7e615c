"""Every table, for Alembic and for create_all in tests: importing this module fills `Base.metadata`."""

from consult.booking import models as booking
from consult.db import Base
from consult.notify import models as notify
from consult.people import models as people
from consult.record import models as record

metadata = Base.metadata

__all__ = ["booking", "metadata", "notify", "people", "record"]
