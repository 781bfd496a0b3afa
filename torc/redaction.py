"""Redacts text written by others: known secrets and terminal escapes are removed, and the length is limited.

Secrets are recognized by their form (tokens of well-known services, private keys) or by the name before them (`password=`,
`AWS_SECRET_ACCESS_KEY=`, `--token`). This is a safety net for what people share on purpose, not a guarantee that no secret is left.
The time is linear in the length of the text: no pattern can fail after reading far ahead. Stored data is not redacted: logs stay
as they were written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from torc.display_text import INVISIBLE

_SHORTEST_LITERAL = 6
_MOST_ROUNDS = 5
_LONGEST_KEY = 16 * 1024


class _Form(NamedTuple):
    """Something recognizable as a secret by its form. It is searched for only where one of its needles occurs."""

    kind: str
    needles: tuple[str, ...]
    pattern: str  # compiled on use: most never are, and every command imports this


def _form(kind: str, needles: str, pattern: str) -> _Form:
    return _Form(kind, tuple(needles.split()), pattern)


#: a literal word of a shell, quoted or not
_WORD = r"(?:'(?!\[redacted)[^'\n]{1,256}'|\"(?![$\[])[^\"\n]{1,256}\"|(?![$\"'\[(-])[^\s\"'`|;&<>()]{1,256})"


def _option(programs: str, words: str, option: str) -> _Form:
    """Return the form of a password after an option without a telling name, for programs known to take it that way."""
    return _form(
        "password", programs, rf"((?<![A-Za-z0-9])(?:{words})[ \t](?:[^\n|;&]{{0,160}}?[ \t])?{option}){_WORD}"
    )


#: a word with a digit that is neither an option nor a name with a value
_PLAIN = r"(?![-\[])(?=\S{6})(?=\S{0,128}[0-9])(?![^\s=]*[=\]])"
#: commands that read a password from standard input, as far as they show it
_READS_PASSWORD = (
    r"(?:sudo[ \t](?:[^\n|;&<]{0,80}?[ \t])?(?:-[A-Za-z]{0,8}S|--stdin)(?![A-Za-z])"
    r"|(?:kinit|iinit|chpasswd|cryptsetup|smbpasswd)(?![A-Za-z])|[a-z0-9-]{2,20}[ \t][^\n|;&<]{0,160}?"
    r"(?:--(?:password-stdin|passphrase-fd|with-token|pinentry-mode)|-pass(?:in|out)?[ \t]stdin|(?<=passwd )--stdin))"
)

#: what may precede `:` and an e-mail address or a package name
_NO_USER = r"mailto|sips?|xmpp|acct|e?-?mail|to|cc|bcc|from|author|contact|maintainer|reply-to|sender|npm|workspace|jsr|user|ssh|git"
#: the first group, if any, is kept
_FORMS = (
    _form("torc token", "torc_ torcjob_", r"torc(?:job)?_[0-9]{1,18}_[A-Za-z0-9_-]{43,}"),
    _form("aws key", "AKIA ASIA", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
    _form(
        "github token",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})",
    ),
    _form("gitlab token", "glpat- gldt- glrt- glcbt- glptt-", r"gl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_.-]{20,}"),
    _form("slack token", "xox xapp-", r"(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,}"),
    _form("slack webhook", "hooks.slack.com/", r"(hooks\.slack\.com/)(?:services|workflows)/[A-Za-z0-9/_-]{8,}"),
    _form("api key", "sk-", r"(?<![A-Za-z0-9])sk-(?=[A-Za-z_-]{0,60}[0-9])[A-Za-z0-9_-]{20,}"),
    _form("stripe key", "_live_", r"(?<![A-Za-z0-9])[sr]k_live_[A-Za-z0-9]{16,}"),
    _form("hugging face token", "hf_", r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}"),
    _form("google key", "AIza ya29.", r"(?<![A-Za-z0-9])(?:AIza[0-9A-Za-z_-]{35}|ya29\.[0-9A-Za-z_-]{20,})"),
    _form("package token", "pypi- npm_", r"(?<![A-Za-z0-9])(?:pypi-AgE[A-Za-z0-9_-]{50,}|npm_[A-Za-z0-9]{36,})"),
    _form("docker token", "dckr_pat_", r"dckr_pat_[A-Za-z0-9_-]{20,}"),
    _form("databricks token", "dapi", r"(?<![A-Za-z0-9])dapi[0-9a-f]{32}(?![A-Za-z0-9])"),
    _form("json web token", "eyJ", r"(?<![A-Za-z0-9_.-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),
    _form(
        "credentials",
        "uthorization UTHORIZATION",
        r"((?i:authorization)[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?(?i:bearer|basic|token|apikey|api-key|key|negotiate) )"
        r"[A-Za-z0-9._~+/=:-]{4,}",
    ),
    _form(
        "credentials",
        "uthorization UTHORIZATION",
        r"((?i:authorization)[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?)"
        r"(?=[A-Za-z._~+/=:-]{0,60}[0-9])[A-Za-z0-9._~+/=:-]{8,}(?=[\"']|\s*(?:\n|$))",
    ),
    _form("credentials", "earer EARER", r"((?<![A-Za-z0-9])(?i:bearer)[ \t])[A-Za-z0-9._~+/=-]{16,}"),
    _form("cookie", "ookie:", r"((?<![A-Za-z0-9])[Cc]ookie:[ \t]{0,4})[^\s;=]{1,100}=[^\n\r]+"),
    _form(
        "credentials",
        "curl",
        r"(\s(?:-u|--user)[ =]?(?P<quote>[\"'])?)"
        r"(?!\d+:\d+\s)[^\s:\"'/$]{1,64}:(?!\$)(?(quote)[^\n\"']|[^\s\"']){1,256}",
    ),
    _option("sshpass", "sshpass", "-p ?"),
    _option("mysql mariadb", r"(?:mysql|mariadb)[a-z-]{0,12}", "-p"),
    _option("7z", "7z[ar]?", "-p"),
    _option("zip", "(?:un)?zip", "-P "),
    _option("login", "login", "-p "),
    _option("redis-cli", "redis-cli", "-a "),
    _option("ldap", "ldap[a-z]{1,12}", "-w "),
    _option("ssh-keygen", "ssh-keygen", "-[NP] "),
    _option("smbclient", "smbclient", r"-U ?[^\s%]{1,64}%"),
    _option("openssl", "openssl", r"-pass(?:in|out)?[ \t]pass:"),
    _option("aws configure", "aws[ \t]configure", r"aws_[a-z_]{3,30}[ \t]"),
    _option("mysql mariadb", r"(?:mysql|mariadb)[a-z-]{0,12}", rf"-p[ \t]{_PLAIN}"),
    _option("mongo", r"mongo[a-z]{0,8}", "-p "),
    _option("sqlcmd isql bcp ipmitool mosquitto", r"sqlcmd|isql|bcp|ipmitool|mosquitto_[a-z]{3,4}", "-P "),
    _option(
        "twine snowsql ncftp cqlsh cypher-shell rabbitmqadmin couchbase cbq steghide tbuild",
        r"twine|snowsql|ncftp[a-z]{0,4}|cqlsh|cypher-shell|rabbitmqadmin|couchbase-cli|cbq|steghide|tbuild",
        "-p ",
    ),
    # a number is the port of an old server
    _option("hive beeline impala-shell mycli", "hive|beeline|impala-shell|mycli", r"-p[ \t]?(?![0-9]{1,5}(?:\s|$))"),
    _option("rar", "(?:un)?rar", "-h?p"),
    _option("vsql", "vsql", "-w ?"),
    _option("freerdp", r"[a-z]{0,4}freerdp[0-9]?", "/p:"),
    _option("pdftk", "pdftk", r"(?:input|owner|user)_pw[ \t](?!PROMPT)"),
    _option("db2", "db2", r"(?<=[ \t])user[ \t]\S{1,64}[ \t]using[ \t]"),
    _option("lftp", "lftp", r"-u ?[^\s,\"']{1,64},"),
    _option("net rpcclient smbget winexe", "net|rpcclient|smbget|winexe", r"-U ?[^\s%]{1,64}%"),
    _option("keytool jarsigner", "keytool|jarsigner", r"-(?:store|key|(?:dest|src)(?:store|key))pass[ \t]"),
    _option("openssl", r"openssl[ \t]enc", "-k "),
    _option("curl", "curl", "--oauth2-bearer[ =]"),
    _option("wandb vault", r"(?:wandb|vault)[ \t]login", rf"(?<!-key[ \t]){_PLAIN}"),
    _option("rclone", "rclone", rf"obscure[ \t]{_PLAIN}"),
    _option("mc", r"mc[ \t]alias[ \t]set", r"\w{1,64}[ \t]https?://\S{1,256}[ \t][^\s$-]\S{0,128}[ \t]"),
    _option("htpasswd", "htpasswd", r"-[A-Za-z]{0,6}(?:nb|bn)[A-Za-z]{0,6}[ \t][^\s-]\S{0,128}[ \t]"),
    _option(
        "htpasswd", "htpasswd", r"-(?![A-Za-z]{0,6}n)[A-Za-z]{0,6}b[A-Za-z]{0,6}[ \t][^\s-]\S{0,256}[ \t]\S{1,128}[ \t]"
    ),
    _form(
        "password",
        "sqlplus sqlldr expdp impdp rman sqlcl",
        r"((?<![A-Za-z0-9])(?:sqlplus|sqlldr|expdp|impdp|rman|sqlcl)[ \t](?:(?:-[A-Za-z]{1,8}|target|userid=|[\"'])[ \t]{0,4}){0,6}"
        r"[A-Za-z][A-Za-z0-9_#]{0,64}/)(?![$\[])[^\s\"'@/`|;&]{1,128}",
    ),
    _form(
        "password",
        "sudo kinit iinit passw with-token fd stdin cryptsetup",
        r"((?<![A-Za-z0-9_-])(?:echo|printf)[ \t](?:-[neE]{1,3}[ \t]){0,4})"
        rf"(?!\[redacted|-[neE]{{1,3}}[ \t])[^\n|;&$`<>]{{1,256}}?(?=[ \t]{{0,4}}\|[ \t]{{0,4}}{_READS_PASSWORD})",
    ),
    _form(
        "password",
        "<<<",
        rf"((?<![A-Za-z0-9_-]){_READS_PASSWORD}[^\n|;&<]{{0,160}}<<<[ \t]{{0,4}}){_WORD}",
    ),
    _form(
        "password",
        "login",
        r"((?:machine\s{1,16}\S{1,256}|default)\s{1,16}"
        r"login\s{1,16}[^\s]{1,128}\s{1,16}password\s{1,16})(?!\[)\S{1,256}",
    ),
    _form("credentials", '"auth"', r"(\"auth\"[ \t]{0,4}:[ \t]{0,4}\")[A-Za-z0-9+/=]{8,}(?=\")"),
    _form("api key", '"key"', r"(\"key\"[ \t]{0,4}:[ \t]{0,4}\")[0-9a-f]{32}(?=\")"),
    # a key in a document whose value has several words, as only a passphrase does
    _form(
        "passphrase",
        "assphrase",
        r"((?:^|(?<=\n))[ \t]{0,16}[A-Za-z0-9_.-]{0,40}[Pp]assphrase[ \t]{0,4}[:=][ \t]{0,4})"
        r"(?![\[$\"'{|>])[^\s,;.!?:=()]{1,40}(?:[ \t][^\s,;.!?:=()]{1,40}){2,12}(?=[ \t]{0,4}\r?(?:\n|$))",
    ),
    # a variable in place of the password is not a secret
    _form("credentials", "://", r"((?<=://)(?=[^\s/@:]{0,256}:(?!\$)[^\s/]{1,1024}@))[^\s/?#\"'<>`]{1,1280}(?=@)"),
    _form("credentials", "://", r"((?<=://))[A-Za-z0-9_-]{20,256}(?=@)"),
    # as for curl and proxies, without `http://`; a number is not a password but a process or rank
    _form(
        "credentials",
        "@",
        rf"(?:(?<![\w./:@%+=&?-])|(?<=[Pp]roxy=)|(?<=PROXY=))(?!(?i:{_NO_USER}):)[A-Za-z0-9_][\w.%+-]{{0,63}}:(?![/$\[]|[0-9.]{{1,20}}@)[^\s/:@\"'<>`|;&(){{}}]{{1,256}}"
        r"(?=@(?:[A-Za-z][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63}){0,8}|[0-9]{1,3}(?:\.[0-9]{1,3}){3})"
        r"(?::[0-9]{1,5})?(?:[/\s\"',;)?#]|$))",
    ),
    _form("password", "jdbc:oracle", r"(jdbc:oracle:\w{1,8}:[^\s/@:]{1,128}/)(?![$\[])[^\s/@]{1,128}(?=@)"),
    _form(
        "credentials",
        "http",
        r"(?<![A-Za-z0-9])(https?[ \t](?:[^\n|;&]{0,160}?[ \t])?(?:-a|--auth)[ =])(?!\[)[^\s:\"'/$]{1,64}:(?!\$)[^\s\"']{1,256}",
    ),
    # with one or both slashes missing
    _form(
        "credentials",
        "ostgres",
        r"((?i:postgres(?:ql)?(?:\+\w{1,16})?):/?(?!/))[^\s/@:]{1,256}:(?!\$)[^\s/]{1,1024}(?=@)",
    ),
    _form(
        "signature", "ig= ignature=", r"((?<![A-Za-z0-9])(?:[Ss]ig|[A-Za-z-]{0,8}[Ss]ignature)=)[A-Za-z0-9%+/=_-]{16,}"
    ),
)

#: names of secrets: `PGPASSWORD`, `dbPassword`; `API_TOKEN`, `TOKEN_2`, `accessToken`, `ssh-key`; `SIGNING_KEY`
_PASSWORD = (
    r"passwords?|passwd|passphrase|passcode|(?<![A-Za-z])pwd|(?-i:(?<![A-Za-z])P[Ww]|(?<=[A-Z_])PW|(?<=[a-z])Pw)"
)
_SECRET = (
    r"secrets?(?:[_-]?(?:access[_-]?)?key)?|tokens?|credentials?|"
    r"(?:api|access|private|secret|auth|account|encryption|signing|shared|license|ssh|subscription)[_-]?key"
)
_NAME = re.compile(
    rf"(?:(?P<password>(?i:{_PASSWORD}))|(?P<secret>(?<![A-Za-z])(?i:{_SECRET})|(?<=[a-z])(?:Token|Secret|ApiKey|AccessKey|PrivateKey)"
    rf"|(?P<capital>(?<=_)(?:KEY|PASS)|SSHPASS)|(?P<short>(?<![A-Za-z])(?:pw|pass))"
    rf"|(?P<pin>(?<![A-Za-z])(?i:pin|otp)(?!_)|(?<=[a-z])Pin(?!_))))(?:_[A-Z0-9][A-Z0-9_]{{0,40}})?(?![A-Za-z0-9_-])"
)
_SIGN = re.compile(r"\\?[\"']?[ \t]{0,4}(?P<mark>[:=])[ \t]{0,4}|[\"']?[ \t]{1,4}")
#: a value in escaped quotes: JSON inside JSON
_ESCAPED_VALUE = re.compile(r"(?P<quote>\\[\"'])(?P<value>[^\"'\\\n]*)")
_VALUE = re.compile(r"(?P<quote>[\"'])?(?P<value>(?(quote)(?:[^\"'\\\n]|\\.)*|[^\s\"'`,;&<>()\[\]{}|]+))")
_NEEDLES = (
    "passw",
    "passphrase",
    "pw",
    "secret",
    "token",
    "credential",
    "key",
    "passcode",
    "pass=",
    "_pass",
    "--pass",
    'pass"',
    "pass'",
    "sshpass",
)
_PIN_NEEDLES = tuple(f"{name}{sign}" for name in ("pin", "otp") for sign in ("=", ":", " ", '"', "'", "_"))
#: a non-secret value at least this long is not searched for names
_LONG = 200
_SECRET_NAME = re.compile(
    rf"(?:passwords?|passwd|passphrase|passcode|(?:^|[_.-])(?:pwd|pw|pass|key|{_SECRET})|sshpass)(?:[_-](?-i:[A-Z0-9]{{1,12}}))?$|(?:^|[_.-])(?:pin|otp)$",
    re.IGNORECASE,
)
#: not secrets, but references to one or empty values
_EMPTY = re.compile(
    r"(?:none|null|nil|true|false|yes|no|undefined|unset|empty|required|optional|missing|invalid|expired|string|str|bytes|"
    r"x{3,}|\*+|\.{2,}|\$\{.*|\$\(.*|\$[A-Z_][A-Z0-9_]*|%.*|password|passwd|passphrase|token|secret|key|[A-Z_]*(?:PASSWORD|TOKEN|SECRET|KEY)|"
    r"\[redacted.*)$",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[+-]?[0-9]{1,7}(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?[a-zA-Z%]{0,4}$")
_PIN = re.compile(r"[0-9]{4,12}\Z")
_CREDENTIALS = re.compile(r"(?<=:/)(?P<second>/?)(?=[^@:]*:)(?!\[redacted).*(?=@)", re.DOTALL)
_OPTION = re.compile(r"(?:^|\s)--?[a-z.-]*$")
#: the rest of an option before `token` and the like that takes nothing else: not `--pad-token`
_SECRET_OPTION = re.compile(
    r"(?:^|[\s\"'])--?(?:(?:auth|access|api|app|bearer|bot|client|hf|refresh|session|github|gitlab|registration|slack|user|vault|wandb)-)*$"
)
_HEADER = re.compile(r"(?:^|[\s\"'])(?:X-[A-Za-z0-9-]{0,40}|[A-Z][A-Za-z]{1,20}-(?:[A-Z][A-Za-z]{1,20}-){0,3})$")
_OPENED = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_CLOSED = re.compile(r"-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
_BASE64_LINES = re.compile(r"(?:\s*[A-Za-z0-9+/=]{16,})*")
_BASE64_LINE = re.compile(r"[ \t]*[A-Za-z0-9+/=]{1,100}\s*$")


def redact(text: str, literals: Iterable[str] = ()) -> str:
    """Replace known secrets by `[redacted: kind]`. `literals` are secrets known exactly."""
    for literal in sorted({known for known in literals if len(known) >= _SHORTEST_LITERAL}, key=len, reverse=True):
        text = text.replace(literal, "[redacted: secret]")
    for _ in range(_MOST_ROUNDS):  # what remains next to a replacement may become recognizable only then
        before, text = text, _once(text)
        if text == before:
            break
    return text


def _once(text: str) -> str:
    text = _without_private_keys(text)
    for form in _FORMS:
        if any(needle in text for needle in form.needles):
            text = re.sub(form.pattern, _replacer(form), text)
    lowered = text.lower()
    return _without_named(text) if any(needle in lowered for needle in (*_NEEDLES, *_PIN_NEEDLES)) else text


def redact_json(value: Any, literals: Iterable[str] = ()) -> Any:
    """Redact all strings in a JSON value; text under a name that denotes a secret is always removed."""
    known = tuple(literals)
    if isinstance(value, str):
        return redact(value, known)
    if isinstance(value, Mapping):
        return {
            key: "[redacted: secret]" if _is_hidden(key, item) else redact_json(item, known)
            for key, item in value.items()
        }
    return [redact_json(item, known) for item in value] if isinstance(value, list | tuple) else value


def _is_hidden(key: Any, item: Any) -> bool:
    return isinstance(item, str) and item != "" and says_secret(str(key)) and not _EMPTY.match(item)


def redact_url(text: str) -> str:
    """Redact a single URL, valid or not: a password with characters that are invalid in a URL is removed as a whole."""
    return redact(_CREDENTIALS.sub(r"\g<second>[redacted: credentials]", text, count=1))


def says_secret(name: str) -> bool:
    """Return whether the name of a variable or field denotes a secret."""
    return name != "PWD" and _SECRET_NAME.search(name) is not None


def _replacer(form: _Form) -> Callable[[re.Match[str]], str]:
    def replaced(match: re.Match[str]) -> str:
        return f"{match[1] if match.re.groups else ''}[redacted: {form.kind}]"

    return replaced


def _without_named(text: str) -> str:
    """Replace values after names that denote secrets."""
    parts, done, at = [], 0, 0
    while (name := _NAME.search(text, at)) is not None:
        at = name.end()
        sign = _SIGN.match(text, at)
        found = (_ESCAPED_VALUE.match(text, sign.end()) or _VALUE.match(text, sign.end())) if sign else None
        if sign is None or found is None:
            continue
        begin, end = found.span("value")
        if _is_secret(text, name, sign, found):
            parts += [text[done:begin], f"[redacted: {'password' if name['password'] else 'secret'}]"]
            done = at = end
        elif end - begin > _LONG:
            at = end
    return "".join([*parts, text[done:]])


def _is_secret(text: str, name: re.Match[str], sign: re.Match[str], found: re.Match[str]) -> bool:
    """Return whether a value after such a name looks like a secret."""
    value, quoted = found["value"], found["quote"] is not None
    if not value or _EMPTY.match(value) or text.startswith("[redacted: ", found.start("value")):
        return False
    if sign["mark"] is None:
        named_value = quoted and (name["password"] or name[0].isupper())  # KDL syntax
        if not named_value and (not _is_option(text, name.start()) or value.startswith("-")):
            return False  # two adjacent words
    elif sign["mark"] == ":" and not quoted and not _ends_value(text, found.end()) and not _is_mixed(value):
        return False  # a sentence: `wrong password: try again`
    if name["password"]:
        # neither a call nor the path of a file with the secret
        return text[found.end() : found.end() + 1] not in {"(", "["} and not value.startswith(("/", "./", "~/"))
    if name["pin"]:
        is_set = sign["mark"] is not None or _is_option(text, name.start())
        return is_set and (_PIN.match(value) is not None or (_is_mixed(value) and sign["mark"] == "="))
    return not _NUMBER.match(value) and _is_secret_of(text, name, sign["mark"], value, quoted=quoted)


def _is_secret_of(text: str, name: re.Match[str], mark: str | None, value: str, *, quoted: bool) -> bool:
    """Decide for an ambiguous name: by how it is written, or by what the value looks like."""
    before = text[max(0, name.start() - 64) : name.start()]
    if name["short"]:
        is_set = mark == "=" or _OPTION.search(before) is not None or (mark == ":" and (quoted or name[0] == "pw"))
        return is_set and len(value) >= 6 and any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    if name[0].isupper() and (mark == "=" or quoted or before.endswith("_")):
        return len(value) >= 4
    if name["capital"] is not None:
        return False
    if _SECRET_OPTION.search(before) or (mark == ":" and _HEADER.search(before)):
        return len(value) >= 4 and not value.startswith(("/", "./", "~/"))
    return _looks_made_up(value)


def _is_option(text: str, start: int) -> bool:
    """Return whether the word is the end of an option, as in `--api-token VALUE`."""
    return _OPTION.search(text[max(0, start - 40) : start]) is not None


def _looks_made_up(value: str) -> bool:
    """Return whether a value may be a token: long enough, and neither a natural word nor a path."""
    if len(value) >= 8 and any(map(str.isdigit, value)):
        return not value.startswith(("/", "./", "~/"))
    return len(value) >= 24 and "/" not in value and "." not in value


def _is_mixed(value: str) -> bool:
    """Return whether a value is not a natural word: it has letters and digits, as passwords do."""
    return len(value) >= 8 and any(map(str.isdigit, value)) and any(map(str.isalpha, value)) and "/" not in value


def _ends_value(text: str, at: int) -> bool:
    """Return whether the value ends the line or the quotation, so that it is not a word in a sentence."""
    following = text[at : at + 3].lstrip(" \t")
    return not following or following[0] in "\r\n,}" or text[at] in "\"'"


# -- private keys -----------------------------------------------------------------------------------------------


def _without_private_keys(text: str) -> str:
    """Replace private keys in PEM, even if the text starts or ends in the middle of one."""
    if "PRIVATE KEY" not in text:
        return text
    parts, done = [], 0
    while (opened := _OPENED.search(text, done)) is not None:
        parts += [_without_end(text[done : opened.start()]), "[redacted: private key]"]
        closed = _CLOSED.search(text, opened.end(), min(len(text), opened.end() + _LONGEST_KEY))
        rest = _BASE64_LINES.match(text, opened.end())
        done = closed.end() if closed else rest.end() if rest else opened.end()
    return "".join([*parts, _without_end(text[done:])])


def _without_end(text: str) -> str:
    """Replace the rest of a key whose beginning is missing."""
    parts, done = [], 0
    for closed in _CLOSED.finditer(text):
        lines = text[done : closed.start()].splitlines(keepends=True)
        while lines and _BASE64_LINE.match(lines[-1]):
            lines.pop()
        parts += [*lines, "[redacted: private key]"]
        done = closed.end()
    return "".join([*parts, text[done:]])


# -- terminal control sequences ---------------------------------------------------------------------------------

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])?|\x9b[0-?]*[ -/]*[@-~]"
)
_UNSEEN = re.compile(f"[{INVISIBLE}\u200c\u200d]")


def without_escapes(text: str) -> str:
    """Return text without terminal control sequences, including colors; incomplete sequences stay."""
    return _ESCAPES.sub("", text)


def cleaned(text: str, limit: int | None = None) -> str:
    """Return text without terminal escapes and control characters; of overwritten lines, only what remained visible.

    `limit`: maximum number of characters; the beginning is dropped, by whole lines if possible, and replaced by a note.
    """
    text = without_escapes(text)
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _cut(_UNSEEN.sub("", text), limit)


def _cut(text: str, limit: int | None) -> str:
    if limit is None or len(text) <= limit:
        return text
    told = "[the beginning is left out]\n"
    room = max(limit - len(told), 0)
    kept = text[len(text) - room :] if room else ""
    if room and text[len(text) - room - 1] != "\n":
        after = kept.partition("\n")[2]
        kept = after or kept  # the end of a single long line
    return (told + kept)[:limit]
