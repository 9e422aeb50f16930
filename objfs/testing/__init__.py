"""The contract that every driver and wrapper keeps, as tests.

A driver's own test needs one fixture; `store` is empty at the start of each test:

    class TestMyDriver(StoreContract):
        @pytest.fixture
        def store(self) -> ObjectStore:
            return MyStore(...)
"""

from objfs.testing.conditions import ConditionContract
from objfs.testing.listing import ListingContract
from objfs.testing.multipart import MultipartContract
from objfs.testing.objects import ObjectContract
from objfs.testing.treatment import TreatmentContract


class StoreContract(ObjectContract, ConditionContract, ListingContract, MultipartContract, TreatmentContract):
    """All of it."""


__all__ = ["StoreContract"]
