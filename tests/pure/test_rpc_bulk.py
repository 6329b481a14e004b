"""What is written by hand reads back as what protobuf would have written."""

from hypothesis import given
from hypothesis import strategies as st

from minicloud.rpc.bulk import with_values
from minicloud.wire import queue_pb2


@given(st.lists(st.binary(max_size=300)), st.text(max_size=200))
def test_values_read_back_in_order(values: list[bytes], name: str) -> None:
    written = with_values(queue_pb2.SendBulkRequest(queue=name), "bodies", values).SerializeToString()
    assert queue_pb2.SendBulkRequest.FromString(written) == queue_pb2.SendBulkRequest(queue=name, bodies=values)


def test_lengths_around_every_step_of_their_encoding() -> None:
    values = [bytes(length) for bits in (0, 7, 14, 20) for length in ((1 << bits) - 1, 1 << bits)]
    written = with_values(queue_pb2.ReceiveMessagesReply(message_ids=b"ids"), "bodies", values).SerializeToString()
    read = queue_pb2.ReceiveMessagesReply.FromString(written)
    assert (list(read.bodies), read.message_ids) == (values, b"ids")
