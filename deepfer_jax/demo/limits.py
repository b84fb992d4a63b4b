"""How much the server takes, how long it waits: every limit, once.

`server.py` says which part enforces which. Together they keep its processes below
1.5 GB, whatever clients do.
"""

# Of one request or message.
MAX_BYTES = 10_000_000
MAX_PIXELS = 24_000_000
MAX_TEXT = 1000  # characters of a message that is no image
HEAD_BYTES = 16_384
# Larger photographs are made smaller than this before faces are looked for.
LONGEST = 1920
# What is more goes to the queue of photographs, wherever it comes from, so that a
# frame never waits for long behind another.
FRAME_BYTES = 1_000_000
FRAME_PIXELS = 1920 * 1440

# Of all together.
MAX_CONNECTIONS = 800
MAX_STREAMS = 64
UPLOAD_BYTES = 40_000_000  # being received by POST
MESSAGE_BYTES = 40_000_000  # being received on streams
WAITING_BYTES = 40_000_000  # received, longer than FRAME_BYTES, and not read yet
WAITING_PHOTOS = 16
SILENT_SECONDS = 2.0  # after which a stream gives way to another, if there are many

# Seconds that a client has to
HEAD_SECONDS = 10.0  # ask, from when it connects or was answered
UPLOAD_SECONDS = 30.0  # send a whole body
PAUSE_SECONDS = 5.0  # send the next part of a body
MESSAGE_SECONDS = 20.0  # send a whole message
LINGER_SECONDS = 2.0  # read why its body was refused, before it is cut off
READ_SECONDS = 10.0  # read what it was sent
WAIT_SECONDS = 60.0  # that an image may wait for its turn
REQUEST_SECONDS = 120.0  # be done with a request, waiting for its turn included

# Beyond which what is sent is taken later, not refused: so many messages, texts and
# bytes a second of a stream, bytes a second of all uploads, and of all messages of more
# than FRAME_BYTES.
STREAM_RATE = 120
TEXT_RATE = 10
STREAM_BYTES_RATE = 10_000_000
UPLOAD_BYTES_RATE = 10_000_000
MESSAGE_BYTES_RATE = 6_000_000

# Messages of less than SMALL_BYTES, of a stream: so many at once, so many a second.
SMALL_BYTES = 1000
SMALL_BURST = 100
SMALL_PER_SECOND = 100

# Of the processes that decode a frame, or a photograph: seconds of processor, bytes of
# addresses.
FRAME_DECODERS = 2
FRAME_SECONDS = 2.0
PHOTO_SECONDS = 5.0
FRAME_MEMORY = 400 * 2**20
PHOTO_MEMORY = 600 * 2**20

EXPLAINED_FACES = 8  # of a picture; each is 122 faces to the network

STOP_SECONDS = 2  # that answers under way get when the server is stopped
