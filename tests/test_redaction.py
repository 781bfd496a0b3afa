"""What may be shown of text that others wrote: known secrets go, everything else stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.failures import Case, cases
from tests.support.examples import examples
from torc.redaction import cleaned, redact, redact_json, says_secret

A40 = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dF3hJ5kL7n"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJraW0ifQ.sflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV"
#: secret -> kind; none of these is or was in use
FORMS = {
    "AKIAQYLPMN5HHHFPZAM2": "aws key",
    f"ghp_{A40}": "github token",
    f"github_pat_11AB_{A40}": "github token",
    f"glpat-{A40[:20]}": "gitlab token",
    "xoxb-123456789012-abcdefABCDEF": "slack token",
    f"sk-proj-{A40}": "api key",
    f"sk-ant-api03-{A40}-x_y": "api key",
    f"hf_{A40[:34]}": "hugging face token",
    f"AIza{A40[:35]}": "google key",
    JWT: "json web token",
    f"torc_12_{A40}-_x": "torc token",
    f"npm_{A40[:36]}": "package token",
}
#: line -> the same, redacted
LINES = {
    'env { API_TOKEN "abcd efgh"; N "3" }': 'env { API_TOKEN "[redacted: secret]"; N "3" }',
    '"DB_PASSWORD" "hunter2"': '"DB_PASSWORD" "[redacted: password]"',
    r'{"body": "{\"password\": \"hunter2\", \"n\": 3}"}': r'{"body": "{\"password\": \"[redacted: password]\", \"n\": 3}"}',
    "curl -s -u kim:hunter2 https://x": "curl -s -u [redacted: credentials] https://x",
    "sshpass -p hunter2 ssh node1": "sshpass -p [redacted: password] ssh node1",
    "X-Auth-Token: 0123456789abcdef": "X-Auth-Token: [redacted: secret]",
    "password=hunter2": "password=[redacted: password]",
    "mysql --user kim --password hunter2 --host db": "mysql --user kim --password [redacted: password] --host db",
    "PGPASSWORD=abc psql": "PGPASSWORD=[redacted: password] psql",
    "export AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIK7MDENGbPxRfiCY": "export AWS_SECRET_ACCESS_KEY=[redacted: secret]",
    "API_TOKEN_2='ab cd ef'": "API_TOKEN_2='[redacted: secret]'",
    '{"accessToken": "ab12cd34ef56", "n": 3}': '{"accessToken": "[redacted: secret]", "n": 3}',
    '  "db_password": "correct horse \\" battery",': '  "db_password": "[redacted: password]",',
    "api_key: 0123456789abcdef0123": "api_key: [redacted: secret]",
    "password: tr0ub4dor": "password: [redacted: password]",
    "Authorization: Bearer abc.def-123": "Authorization: Bearer [redacted: credentials]",
    "curl -H 'authorization: Basic a2ltOnB3'": "curl -H 'authorization: Basic [redacted: credentials]'",
    "Cookie: torc_session=abc; other=1": "Cookie: [redacted: cookie]",
    "git clone https://kim:p@ss@example.org/x.git": "git clone https://[redacted: credentials]@example.org/x.git",
    "postgresql+psycopg://torc:pw@db/torc": "postgresql+psycopg://[redacted: credentials]@db/torc",
    f"https://{A40}@github.com/x": "https://[redacted: credentials]@github.com/x",
    "https://x.blob/core?sig=aGVsbG8gd29ybGQhISE%3D&se=1": "https://x.blob/core?sig=[redacted: signature]&se=1",
    'curl -H "X-Auth-Token: s3cr3tvalue" https://x': 'curl -H "X-Auth-Token: [redacted: secret]" https://x',
    "curl -H 'X-Vault-Token: hvs.CAESIJ' x": "curl -H 'X-Vault-Token: [redacted: secret]' x",
    'curl --header="PRIVATE-TOKEN: s3cr3tvalue99" x': 'curl --header="PRIVATE-TOKEN: [redacted: secret]" x',
    'curl -H "Authorization: s3cr3tvalue99" x': 'curl -H "Authorization: [redacted: credentials]" x',
    'curl -H "Authorization: ApiKey abcdefg" x': 'curl -H "Authorization: ApiKey [redacted: credentials]" x',
    'git -c http.extraheader="AUTHORIZATION: bearer abcdefgh" pull': 'git -c http.extraheader="AUTHORIZATION: bearer [redacted: credentials]" pull',
    "echo 'password: hunter2' | login": "echo 'password: [redacted: password]' | login",
    "echo hunter22 | sudo -S mount /x": "echo [redacted: password] | sudo -S mount /x",
    "printf '%s' hunter22 | docker login -u kim --password-stdin": "printf [redacted: password] | docker login -u kim --password-stdin",
    "echo -n kim:hunter2 | chpasswd": "echo -n [redacted: password] | chpasswd",
    "gpg -d --passphrase-fd 0 x <<< hunter2": "gpg -d --passphrase-fd 0 x <<< [redacted: password]",
    "sqlplus -s kim/hunter2@orcl @x.sql": "sqlplus -s kim/[redacted: password]@orcl @x.sql",
    "htpasswd -bc .ht kim hunter2": "htpasswd -bc .ht kim [redacted: password]",
    "htpasswd -nb kim hunter2": "htpasswd -nb kim [redacted: password]",
    "mongosh -u kim -p hunter2 db": "mongosh -u kim -p [redacted: password] db",
    "sqlcmd -S h -U kim -P hunter2": "sqlcmd -S h -U kim -P [redacted: password]",
    "lftp -u kim,hunter2 h": "lftp -u kim,[redacted: password] h",
    "keytool -list -storepass changeit -keystore k": "keytool -list -storepass [redacted: password] -keystore k",
    "wandb login 0123456789abcdef0123": "wandb login [redacted: password]",
    "mc alias set s3 https://h AKI hunter22": "mc alias set s3 https://h AKI [redacted: password]",
    "machine h login kim password hunter2": "machine h login kim password [redacted: password]",
    "passphrase: correct horse battery staple": "passphrase: [redacted: passphrase]",
    "password: tr0ub4dor and more": "password: [redacted: password] and more",
    'curl --user "kim:two words" x': 'curl --user "[redacted: credentials]" x',
    '{"auth": "a2ltOmh1bnRlcjI="}': '{"auth": "[redacted: credentials]"}',
    "PLAIN_PW=hunter2 ./run": "PLAIN_PW=[redacted: password] ./run",
    "export MYPW='hun ter2'": "export MYPW='[redacted: password]'",
    "user=kim pass=hunter2": "user=kim pass=[redacted: secret]",
    "run --pw hunter2 --secret hunter2": "run --pw [redacted: secret] --secret [redacted: secret]",
    "run --token abcdef --access-token=qwert": "run --token [redacted: secret] --access-token=[redacted: secret]",
    "mysql -u root -phunter2 db": "mysql -u root -p[redacted: password] db",
    "mariadb-dump -uroot -p'hunter 2' db": "mariadb-dump -uroot -p[redacted: password] db",
    "docker login -u kim -p hunter2 x": "docker login -u kim -p [redacted: password] x",
    "7z x -phunter2 a.7z; unzip -P hunter2 a.zip": "7z x -p[redacted: password] a.7z; unzip -P [redacted: password] a.zip",
    "redis-cli -a hunter2 ping": "redis-cli -a [redacted: password] ping",
    "openssl rsa -passin pass:hunter2": "openssl rsa -passin pass:[redacted: password]",
    "env: {API_TOKEN: abcd, N: 3}": "env: {API_TOKEN: [redacted: secret], N: 3}",
    "postgresql://torc@db/torc?password=hunter2": "postgresql://torc@db/torc?password=[redacted: password]",
    "Pw: hunter2": "Pw: [redacted: password]",
    "export dbPw='hun ter2'": "export dbPw='[redacted: password]'",
    "kim: pw: hunter2": "kim: pw: [redacted: secret]",
    '{"pw": "hunter2", "pass": "hunter3"}': '{"pw": "[redacted: secret]", "pass": "[redacted: secret]"}',
    "passcode=hunter2": "passcode=[redacted: password]",
    "run --passcode 482913": "run --passcode [redacted: password]",
    "PIN=4829 ./run": "PIN=[redacted: secret] ./run",
    "CARD_PIN: 482913": "CARD_PIN: [redacted: secret]",
    '{"pin": "4829", "otp": "482913"}': '{"pin": "[redacted: secret]", "otp": "[redacted: secret]"}',
    "run --pin 4829": "run --pin [redacted: secret]",
    "hive -n kim -p hunter2 -f x.sql": "hive -n kim -p [redacted: password] -f x.sql",
    "beeline -u jdbc:hive2://h -n kim -phunter2 -f x": "beeline -u jdbc:hive2://h -n kim -p[redacted: password] -f x",
    "impala-shell -i h -u kim -phunter2 -q x": "impala-shell -i h -u kim -p[redacted: password] -q x",
    "impala-shell -i h -p 'hun ter2' -q x": "impala-shell -i h -p [redacted: password] -q x",
    "mysql -u root -p hunter2 db": "mysql -u root -p [redacted: password] db",
    "mycli -phunter2 db": "mycli -p[redacted: password] db",
    "cqlsh -u kim -p hunter2 h": "cqlsh -u kim -p [redacted: password] h",
    "unrar x -phunter2 a.rar": "unrar x -p[redacted: password] a.rar",
    "ipmitool -U kim -P hunter2 power status": "ipmitool -U kim -P [redacted: password] power status",
    "db2 connect to x user kim using hunter2": "db2 connect to x user kim using [redacted: password]",
    "pdftk a.pdf input_pw hunter2 output b.pdf": "pdftk a.pdf input_pw [redacted: password] output b.pdf",
    "xfreerdp /u:kim /p:hunter2 /v:h": "xfreerdp /u:kim /p:[redacted: password] /v:h",
    "arangosh --server.password hunter2": "arangosh --server.password [redacted: password]",
    "curl u:p@host/x": "curl [redacted: credentials]@host/x",
    "https_proxy=u:p@proxy.example.org:3128 pip": "https_proxy=[redacted: credentials]@proxy.example.org:3128 pip",
    "ftp://u:p@h/": "ftp://[redacted: credentials]@h/",
    "http --auth kim:hunter2 h/x": "http --auth [redacted: credentials] h/x",
    "jdbc:oracle:thin:kim/hunter2@h:1521:x": "jdbc:oracle:thin:kim/[redacted: password]@h:1521:x",
    "wandb login --api-key 0123456789abcdef0123456789abcdef01234567": "wandb login --api-key [redacted: secret]",
}
#: as programs print, and as specs hold
ORDINARY = """\
epoch 3 tokens=4096 max_tokens: 8192 token_type=bearer tokens/s=1832.5 num_key_value_heads=8
Unexpected token: '}' in config.json; wrong password: try again; Enter passphrase for key '/home/kim/.ssh/id':
KeyError: 'chr7' key=value sort_key=position KEY=3 primary_key=True key: sample_17
TOKENIZERS_PARALLELISM=false TORC_JOB_KEY=12 CUDA_VISIBLE_DEVICES=0,1 PWD=/home/kim PASS=17 FAIL=2
login(user, password=password, token=token, secret=None) in client.py line 88, token = tokenizer.encode(text)
docker run -u 1000:1000 curl/curl; unexpected token "abc12345", secret "x", sort_key "name"
mysql --password "$DB_PASSWORD" --token ${TOKEN} --token-file /run/secrets/token --password-stdin
ssh://kim@node1:22/x https://host:8080/path?q=a:b@c postgresql://${USER}:${PASSWORD}@db/x git@github.com:a/b.git
scikit-learn sk-learn risk-assessment-of-something-long hf_hub_download dapifoo eyJ.x ghp_short AKIDSEQ
MKVLAAKIAQYLPMNHHHFPZAMSTKIAAAASIAQYLPMNHHHFPZAMRKKAKIAQYLPM password: 
pw.x -in pw.in > pw.out; pw = 12.5 Ry; calc_pw=scf; npw=1234; --pad-token eos; PASS: 17 tests; pass=true; first_pass=kmer
mkdir -p hunter2; cp -p a b; ssh -p 2222 node1; mysql -P 3306 -p db; zip -r a.zip b; docker run -p 8080:80 x; login -p
Authorization: required; authorization: failed for 3 users; X-Slurm-Job: 12; Content-Type: text/plain; max-tokens: 4096
'token: expected' special-token: [PAD] "invalid token: }" 'no password: use a key' openssl rsa -passin file:/k
mysql -u root -p"$PW" db; mysql -p$DB_PW db; redis-cli -a "$PW" ping; unzip -P ${PW} x; --token-type bearer
echo $PW | sudo -S ls; echo 3 items | tee x; sudo -S ls <<< "$PW"; echo hello | docker run -i x; sqlplus / as sysdba; sqlplus -s @dir/x.sql
htpasswd -b .ht kim "$PW"; wandb login; vault login -method=ldap; keytool -storepass:env KS; login failed: no password here; curl -b jar
passphrase: none; Enter passphrase for key: try again please now; openssl enc -aes256 -in x; mongo -p; sqlcmd -U kim -P $PW; bcp -P
hive -h host -p 10000 -f x.sql; impala-shell -p -q 'select 1'; mysql -p sales < dump.sql; impala-shell -i h -p; pw: 12.5 Ry
pin_memory=True --pin-memory 4 num_pins=12 PIN=yes GPIO_PIN=12 pin=17; spin: 2500; typing: 1234; taskset pin: 0-3; PASS: check1.test
mailto:kim@example.org To:kim@h.org ubuntu:22.04@sha256:0123456789abcdef npm:react@18.2.0 rank:3@node12 git@h.org:a/b.git
rsync kim@h:data/x kim@h:y; docker run -v a:b img; user kim using the queue; rar x a.rar; http -a kim h; pdftk a input_pw PROMPT output b
srun: error: slurm_receive_msg: Zero Bytes were transmitted; munge: Invalid credential; credential: expired
"""


@pytest.mark.parametrize("secret", FORMS)
def test_a_secret_of_a_known_form_goes(secret: str) -> None:
    assert redact(f"before {secret} after") == f"before [redacted: {FORMS[secret]}] after"
    assert secret not in redact(f"X='{secret}',y") and secret not in redact(f"login {secret}\n")


@pytest.mark.parametrize("line", LINES)
def test_a_secret_with_its_name_before_it_goes(line: str) -> None:
    assert redact(line) == LINES[line]
    assert redact(f"a\n{line}\nb") == f"a\n{LINES[line]}\nb"


def test_private_keys_go_also_where_the_text_begins_or_ends_in_the_middle_of_one() -> None:
    body = "\n".join(["MIIEpAIBAAKCAQEA" + "x" * 48] * 3)
    key = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    assert redact(f"a\n{key}\nb\n{key}") == "a\n[redacted: private key]\nb\n[redacted: private key]"
    assert redact(key[40:] + "\nb") == "[redacted: private key]\nb"
    assert redact("a\n" + key[:-40] + "\nall done") == "a\n[redacted: private key]\nall done"
    assert redact("-----BEGIN PUBLIC KEY-----") == "-----BEGIN PUBLIC KEY-----"


def test_ordinary_text_stays() -> None:
    for line in ORDINARY.splitlines():
        assert redact(line) == line
    assert redact(ORDINARY) == ORDINARY


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case.name)
def test_the_logs_of_the_collection_stay(case: Case) -> None:
    facts = case.facts
    for text in (facts.command, *(log.text for log in facts.logs)):
        assert redact(text) == text


def test_names_tell_and_so_do_fields_of_json() -> None:
    assert all(
        map(
            says_secret,
            (
                "DB_PASSWORD",
                "api-key",
                "HF_TOKEN",
                "token",
                "client_secret",
                "SIGNING_KEY",
                "PGPASSWORD",
                "TOKEN_2",
                "PLAIN_PW",
                "passcode",
                "CARD_PIN",
            ),
        )
    )
    assert not any(
        map(
            says_secret,
            (
                "TOKENIZERS",
                "monkey",
                "num_tokens_seen",
                "PATH",
                "keyboard",
                "KEY_FILE_DIR_NAMES_X",
                "secretary",
                "PWD",
                "OLDPWD",
                "SPIN",
                "PIN_MEMORY",
            ),
        )
    )
    found = redact_json(
        {"env": {"HF_TOKEN": "abc", "N": "3", "EMPTY_TOKEN": ""}, "tags": ["a", f"ghp_{A40}"], "n": 1, "token": None}
    )
    assert found == {
        "env": {"HF_TOKEN": "[redacted: secret]", "N": "3", "EMPTY_TOKEN": ""},
        "tags": ["a", "[redacted: github token]"],
        "n": 1,
        "token": None,
    }
    assert redact("it was s3cr3t!", ["s3cr3t!", "it"]) == "it was [redacted: secret]"


PIECES = st.lists(
    st.sampled_from(
        [
            *FORMS,
            *LINES,
            "password",
            "curl",
            " -u ",
            "sshpass -p ",
            "=",
            ":",
            " ",
            '"',
            "'",
            "\\",
            "token",
            "KEY",
            "_",
            "-",
            "--",
            "\n",
            "://",
            "@",
            "[redacted: x]",
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "abcd1234efgh",
            "/",
            "$",
            "{",
            "(",
            ",",
            "eyJ",
            "Bearer ",
            "\r",
            "x" * 30,
        ]
    ),
    max_size=12,
).map("".join)


@settings(max_examples=examples(400))
@given(st.one_of(PIECES, st.text(max_size=60)))
def test_once_is_enough(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@settings(max_examples=examples(200))
@given(
    st.text(alphabet=st.sampled_from("ab\n\r\x1b[]m0;\x07\x00\t é\u202e\x9b\ud800"), max_size=80), st.integers(0, 90)
)
def test_cleaned_text_is_short_and_plain(text: str, limit: int) -> None:
    once = cleaned(text, limit)
    assert len(once) <= limit and cleaned(once, limit) == once
    assert all(character.isprintable() or character in "\n\t" for character in once)


def test_text_is_cut_at_the_border_of_a_line() -> None:
    lines = [f"line {number}" for number in range(20)]
    kept = cleaned("\n".join(lines), 60).splitlines()
    assert kept[0] == "[the beginning is left out]" and kept[1:] == lines[-len(kept) + 1 :]
    assert cleaned("a\x1b[31mred\x1b[0m\r\n10%\r20%\rdone\n\x1b]0;title\x07x") == "ared\ndone\nx"
    assert cleaned("x" * 100, 40).endswith("x" * 12)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(
    "unit",
    [
        "password=",
        "token=/",
        'token="',
        "token='a",
        "eyJ-",
        "a://",
        "a:a",
        "://a",
        "key_",
        "A_KEY=",
        "sk-",
        "-----BEGIN PRIVATE KEY-----",
        "AAAAAAAAAAAAAAAAAAAA\n",
        "\x1b]",
        "\x1b[",
        "Cookie: ",
        "signature",
        "Bearer ",
        "Authorization: ",
        "--token",
        " ",
        "pass",
        "SECRET_",
        "curl -u a",
        "sshpass -p ",
        '\\"',
        "mysql ",
        "mysql -p",
        "login a ",
        "login -p $",
        "aws configure ",
        "authorization: ",
        "x-a-token: ",
        "pw=",
        "--pw ",
        "echo a ",
        "echo a | ",
        "echo a | sudo ",
        "sudo -S ",
        "sudo -S <<< $",
        "kinit a",
        "<<< ",
        "htpasswd -b a ",
        "machine a ",
        "machine a login b password ",
        "passphrase: a ",
        "\npassphrase: a b c d e",
        "sqlplus -s ",
        "sqlplus a/",
        "mc alias set a ",
        "openssl enc ",
        "wandb login a",
        'curl -u "a:',
        "u:p",
        "u:p@",
        "u:p@h.",
        "u:p@h:1",
        "hive ",
        "hive -p 1",
        "mysql -p a",
        "db2 user a ",
        "jdbc:oracle:thin:a/",
        "http -a ",
        "http -a a:",
        "PIN=",
        "pin: 1",
    ],
)
def test_megabytes_that_nearly_match_take_no_longer_than_others(unit: str) -> None:
    # a pattern that reads on and then fails, at each place anew, would be at this for hours
    text = unit * (300_000 // len(unit)) + "-----END PRIVATE KEY-----"
    assert len(redact(text)) > 0 and len(cleaned(text, 1000)) <= 1000


@pytest.mark.parametrize("start", ["postgresql:/", "postgres:", "Postgresql+psycopg:/"])
def test_a_password_in_a_url_without_its_slashes_goes(start: str) -> None:
    assert "hunter2" not in redact(f"cannot open {start}me:hunter2@host/torc now")
