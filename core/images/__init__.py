"""Image files: recognising formats, finding files and decoding pixels."""

from .finding import FoundImages as FoundImages
from .finding import LeftOut as LeftOut
from .finding import find_images as find_images
from .finding import is_junk as is_junk
from .finding import junk_folder as junk_folder
from .finding import left_out_note as left_out_note
from .finding import search_images as search_images
from .finding import why_not_image as why_not_image
from .formats import FORMATS as FORMATS
from .formats import format_of as format_of
from .limits import MAX_FILE_BYTES as MAX_FILE_BYTES
from .limits import MAX_PIXELS as MAX_PIXELS
from .limits import MIN_SIDE as MIN_SIDE
from .limits import READER_VERSION as READER_VERSION
from .pillow_images import convert_image as convert_image
from .reader import DecodedImage as DecodedImage
from .reader import decode_image as decode_image
from .reader import read_image as read_image
