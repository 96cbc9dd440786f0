"""Guards of files: from where they are fetched, what passes as whole, and where they are kept."""

from tests.mutation.guard import Edit, Guard

FETCH, VERIFY, STORE = "app/artifacts/fetch.py", "app/artifacts/verify.py", "app/artifacts/store.py"
ON_FETCH, ON_VERIFY = "tests/artifacts/test_fetch.py", "tests/artifacts/test_verify.py"
GUNZIP = "app/artifacts/gunzip.py"
ON_STORE = "tests/artifacts/test_store.py"
DUPLICATES, KEY_PATHS = "app/artifacts/duplicates.py", "app/artifacts/key_paths.py"
ON_DUPLICATES, ON_KEY_PATHS = "tests/artifacts/test_duplicates.py", "tests/artifacts/test_key_paths.py"

GUARDS = (
    Guard(
        "files come by https",
        "a file read or changed on its way",
        f"{ON_FETCH}::test_these_addresses_are_not",
        Edit(FETCH, "if url.scheme not in schemes:", "if False:"),
    ),
    Guard(
        "no user name in an address",
        "an address that looks like one host and leads to another",
        f"{ON_FETCH}::test_these_addresses_are_not",
        Edit(FETCH, "if url.userinfo:", "if False:"),
    ),
    Guard(
        "files come from known hosts",
        "a worker made to fetch from inside its own network",
        f"{ON_FETCH}::test_these_addresses_are_not",
        Edit(FETCH, "if not any(fnmatchcase(url.host, host) for host in self.hosts):", "if False:"),
    ),
    Guard(
        "each redirect is checked",
        "a known host that leads to an unknown one",
        f"{ON_FETCH}::test_anything_else_leaves_nothing",
        Edit(
            FETCH,
            "        for _ in range(MOST_REDIRECTS + 1):\n            self._policy.check(address)\n",
            "        self._policy.check(address)\n        for _ in range(MOST_REDIRECTS + 1):\n",
        ),
    ),
    Guard(
        "redirects of files are followed by hand",
        "a redirect followed by the library, unchecked",
        f"{ON_FETCH}::test_anything_else_leaves_nothing",
        Edit(FETCH, "follow_redirects=False", "follow_redirects=True"),
    ),
    Guard(
        "parts of two files are not put together",
        "a file that never was, should its server have replaced it",
        f"{ON_FETCH}::test_parts_of_two_files_are_not_put_together",
        Edit(FETCH, "if found != version:", "if False:"),
    ),
    Guard(
        "a segment is what was asked for",
        "a file with a part of it at a wrong place",
        f"{ON_FETCH}::test_a_segment_of_another_place_is_not_taken",
        Edit(FETCH, "if first != start:", "if False:"),
    ),
    Guard(
        "a file that ends early is refused",
        "half a file taken for the whole",
        f"{ON_VERIFY}::test_a_file_cut_anywhere_is_refused",
        Edit(
            VERIFY,
            "        if not self._gunzip.complete:\n            raise Corrupt(",
            "        if False:\n            raise Corrupt(",
        ),
    ),
    Guard(
        "the checksum of gzip",
        "a file with a flipped bit taken for sound",
        f"{ON_VERIFY}::test_a_flipped_bit_is_noticed_unless_it_means_nothing",
        Edit(
            VERIFY,
            """        except DAMAGED as error:
            raise Corrupt(f"not intact gzip: {error}") from None
""",
            """        except DAMAGED:
            self._gunzip = Gunzip()
            list(self._gunzip.steps(__import__("gzip").compress(b"")))
""",
        ),
    ),
    Guard(
        "each line is JSON",
        "an error page in the middle taken for data",
        f"{ON_VERIFY}::test_a_line_that_is_no_json_object_is_refused",
        Edit(
            VERIFY,
            "        except orjson.JSONDecodeError as error:\n",
            "        except orjson.JSONDecodeError as error:\n            return {}\n",
        ),
    ),
    Guard(
        "each line is an object",
        "lines that are JSON, but nothing that Asana exports",
        f"{ON_VERIFY}::test_a_line_that_is_no_json_object_is_refused",
        Edit(
            VERIFY,
            "        if not isinstance(value, dict):\n            raise",
            "        if not isinstance(value, dict):\n            return {}\n            raise",
        ),
    ),
    Guard(
        "a line has an end",
        "a worker that runs out of memory over one line",
        f"{ON_VERIFY}::test_an_endless_line_is_refused_before_it_fills_memory",
        Edit(VERIFY, "if self._rest_bytes > self._limits.line_bytes:", "if False:"),
    ),
    Guard(
        "a file unpacks to so much at most",
        "a bomb that keeps a worker busy for days",
        f"{ON_VERIFY}::test_a_bomb_is_refused_before_it_fills_memory",
        Edit(VERIFY, "if self._uncompressed > self._limits.uncompressed_bytes:", "if False:"),
    ),
    Guard(
        "unpacking goes by small steps",
        "a bomb that fills memory before it is counted",
        f"{ON_VERIFY}::test_a_bomb_is_refused_before_it_fills_memory",
        Edit(GUNZIP, "self._member.decompress(piece, STEP)", "self._member.decompress(piece)"),
    ),
    Guard(
        "a full disk is told from other errors of SQLite",
        "a file that fails for want of room while its duplicates are looked for, instead of waiting for it",
        f"{ON_DUPLICATES}::test_few_lines_need_no_room_on_disk_and_many_are_refused_without",
        Edit(
            DUPLICATES,
            "if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:",
            "if False:",
        ),
    ),
    Guard(
        "a file has so many resource types at most",
        "a worker that runs out of memory over what it keeps of each",
        f"{ON_VERIFY}::test_types_without_end_are_refused",
        Edit(VERIFY, "if len(self._by_type) > MOST_TYPES:", "if False:"),
    ),
    Guard(
        "so many keys at most are kept",
        "a worker that runs out of memory over what it has seen",
        f"{ON_KEY_PATHS}::test_keys_without_end_are_not_kept",
        Edit(KEY_PATHS, "if len(self._seen.paths()) > MOST_PATHS:", "if False:"),
    ),
    Guard(
        "a key stays in the store",
        "a file written or read anywhere on the machine",
        f"{ON_STORE}::test_a_key_cannot_leave_the_store",
        Edit(STORE, "if not KEY.fullmatch(key):", "if False:"),
    ),
    Guard(
        "what was not published is thrown away",
        "a disk that fills with halves of files",
        f"{ON_STORE}::test_an_error_on_the_way_leaves_nothing",
        Edit(STORE, "await asyncio.shield(writer.discard())", "pass"),
    ),
    Guard(
        "a full disk is told from other errors",
        "an export that fails for want of room, instead of waiting for it",
        f"{ON_STORE}::test_a_full_disk_leaves_nothing",
        Edit(STORE, "(StorageFull if _is_full(error) else StoreFailed)", "StoreFailed"),
    ),
    Guard(
        "a part is of the file it was begun with",
        "a download put together of two files",
        "tests/api/test_conditions.py::test_a_part_of_another_file_is_not_wanted",
        Edit("app/api/conditions.py", 'or not self._is_of_this(headers.get("If-Range"))', ""),
    ),
    Guard(
        "a stored file is forced to the disk",
        "a record of a file that a power cut has taken",
        f"{ON_STORE}::test_a_file_is_on_disk_before_it_counts",
        Edit(STORE, "            os.fsync(opened)\n", "            pass\n"),
    ),
)
