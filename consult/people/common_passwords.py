"""The passwords that lists of breached accounts have most often, 8 characters and longer, in lower case.

Refusing these (OWASP ASVS 5.0, 6.2.4 asks for at least the most common ones that fit the policy) stops the guesses
that are tried first; patterns such as `aaaaaaaa` or `12345678901` are found by rule in passwords.py.
"""

from __future__ import annotations

_LIST = """
password password1 password2 password3 password12 password123 password1234 password12345 password! passwort passwort1
passwort123 passw0rd passw0rd1 p@ssword p@ssw0rd p@ssword1 p@ssw0rd1 p@55w0rd pa$$word pa$$w0rd password01 password11
password99 password2020 password2021 password2022 password2023 password2024 password2025 password2026 mypassword
yourpassword thepassword newpassword oldpassword password0 passwords passwordpassword contraseña contrasena motdepasse
senha123 wachtwoord haslo123 heslo123 parola123 salasana lozinka1 jelszo123 qwertyui qwertyuiop qwerty12 qwerty123
qwerty1234 qwerty12345 qwerty123456 qwerty321 qwertyqwerty qwerty11 qwerty77 qwerty99 qwertyu1 1qaz2wsx 1qaz2wsx3edc
qazwsxedc qazwsx123 qazwsxedcrfv zaq12wsx zaq1zaq1 zaq1xsw2 1q2w3e4r 1q2w3e4r5t 1q2w3e4r5t6y q1w2e3r4 q1w2e3r4t5
q1w2e3r4t5y6 1qazxsw2 qweasdzxc qweasd123 qwe123qwe qwe12345 qweqweqwe asdfghjk asdfghjkl asdfasdf asdf1234 asd12345
asdasdasd asdfgh123 zxcvbnm1 zxcvbnm123 zxcvbnm, zxczxczxc zxcvbnmz azertyui azertyuiop azerty123 qwertzui qwertzuiop
123qweasd 123qweasdzxc 123qwe123 12345qwert 123456qwerty 1234qwer qwer1234 qwert123 qwert1234 qwert12345 q1234567
q12345678 a1234567 a12345678 a123456789 abc12345 abc123456 abcd1234 abcd12345 abcd123456 abcdef123 abcdefg1 abcdefgh
abc123abc abcabcabc aa123456 aa12345678 a1b2c3d4 a1b2c3d4e5 1a2b3c4d 1a2b3c4d5e aaa12345 asd123456 zxc12345 zxcv1234
zxc123456 iloveyou iloveyou1 iloveyou2 iloveyou! iloveyou123 iloveyou12 ilovegod ilovejesus iloveme1 lovelove loveyou1
lovely123 loveme123 myloveyou iloveu123 princess princess1 princess12 princess123 sunshine sunshine1 sunshine12
sunshine123 football football1 football12 football123 baseball baseball1 baseball12 basketball basketball1 superman
superman1 superman123 batman123 spiderman spiderman1 spiderman123 trustno1 starwars starwars1 pokemon1 pokemon123
pikachu1 dragon12 dragon123 monkey12 monkey123 shadow12 shadow123 master12 master123 michael1 michael123 jennifer
jennifer1 jessica1 jessica123 michelle michelle1 charlie1 charlie123 ashley12 ashley123 anthony1 daniel123 jordan23
jordan123 liverpool liverpool1 chelsea1 chelsea123 arsenal1 arsenal123 barcelona barcelona1 realmadrid juventus
manchester manchesterunited england1 scotland ireland1 welcome1 welcome12 welcome123 welcome1234 welcome! welcome2
willkommen bienvenue bienvenido letmein1 letmein123 letmein! letmeinnow changeme changeme1 changeme123 changeme!
changeit changethis default1 default123 admin123 admin1234 admin12345 admin123456 adminadmin administrator
administrator1 admin@123 admin888 root1234 rootroot root12345 toor1234 test1234 test12345 test123456 testtest testing1
testing123 tester123 test@123 guest123 guest1234 user1234 user12345 username username1 demo1234 demodemo temp1234
temporary secret123 secret12 secretpassword topsecret computer computer1 computer123 internet internet1 security
security1 security123 samsung1 samsung123 google123 google12 facebook facebook1 facebook123 youtube1 linkedin
linkedin1 microsoft windows1 windows10 whatever whatever1 nothing1 something blink182 metallica metallica1 slipknot
slipknot1 nirvana1 corvette mercedes mercedes1 porsche1 ferrari1 lamborghini mustang1 camaro12 chevrolet harley12
harleydavidson bmw12345 summer12 summer123 summer2020 summer2021 summer2022 summer2023 summer2024 summer2025
summer2026 winter12 winter123 winter2020 winter2021 winter2022 winter2023 winter2024 winter2025 winter2026 spring2023
spring2024 spring2025 spring2026 autumn2023 autumn2024 autumn2025 autumn2026 january1 february november november1
december december1 september september1 october1 monday123 friday13 saturday thursday chocolate chocolate1 cookie123
cookies1 cheese12 cheesecake banana12 banana123 orange12 orange123 strawberry strawberry1 butterfly butterfly1
sweetheart sweetie1 beautiful beautiful1 gorgeous princesa angel123 angels123 angelica angelina precious precious1
babygirl babygirl1 babygirl12 babyboy1 lovebird forever1 forever21 friends1 friendship family123 mother12 mother123
father123 brother1 sister123 daughter grandma1 children christian christian1 jesus123 jesuschrist jesusislord
jesus1234 blessed1 heaven123 faithful hallelujah victoria victoria1 elizabeth elizabeth1 alexander alexander1
alexandra alexandra1 alexandr benjamin benjamin1 nicholas nicholas1 jonathan jonathan1 samantha samantha1 stephanie
stephanie1 veronica veronica1 patricia christine christina christopher christopher1 katherine catherine caroline
gabriela gabriella isabella1 madison1 savannah brittany brittany1 courtney courtney1 danielle danielle1 nathalie
nathan123 matthew1 matthew123 joshua123 andrew123 william1 william123 robert123 richard1 thomas123 george123 vanessa1
vanessa123 rebecca1 melissa1 melissa123 sebastian sebastian1 fernando fernando1 santiago alejandro alejandra francisco
carolina mariposa estrella corazon1 teamo123 tequiero bonita123 hola1234 holahola natasha1 natasha123 nastya123
anastasia anastasia1 svetlana svetlana1 vladimir vladimir1 marina123 tatyana1 ekaterina dmitriy1 maksim123 nikita123
marusya1 lubimaya lubimyi1 solnishko privet123 privetprivet spartak1 zenit123 rossiya1 moskva123 parol123 parol1234
parol12345 йцукенгш йцукенгшщз йцукен123 пароль123 пароль12 пароль1234 любовь123 привет123 наташа123 марина123
солнышко ghbdtn123 gfhjkm123 ghjcnjgfhjkm football! killer123 killer12 hunter12 hunter123 ranger12 soccer12 soccer123
hockey12 hockey123 tennis123 cowboys1 steelers steelers1 yankees1 lakers24 redsox123 packers1 patriots dolphins
raiders1 eagles123 warriors champion champions winner123 winners1 loser123 legend123 legendary gangster playboy1
playboy123 rockstar rockstar1 superstar superstar1 skateboard skater12 snowboard swimming swimming1 dancing1 dancer12
cheerleader gymnastics volleyball volleyball1 softball softball1 midnight midnight1 darkness darkness1 darkside
vampire1 werewolf destiny1 destiny123 paradise paradise1 fantasy1 infinity infinity1 universe galaxy123 rainbow1
rainbow123 diamond1 diamond123 crystal1 crystal123 sapphire emerald1 platinum goldfish goldfinger silver123 scooter1
scooby12 scoobydoo garfield garfield1 snoopy12 snoopy123 mickey12 mickey123 mickeymouse minnie12 minniemouse tweety12
tinkerbell tinkerbell1 cinderella hellokitty hellokitty1 spongebob spongebob1 patrick1 patrick123 simpsons bartsimpson
naruto12 naruto123 minecraft minecraft1 minecraft123 fortnite fortnite1 fortnite123 roblox123 callofduty gamer123
playstation playstation1 playstation2 playstation3 xbox360x nintendo nintendo1 pa55word pass1234 pass12345 pass123456
passpass pass@123 pass@1234 passme123 passwd123 passcode hello123 hello1234 hello12345 hellohello helloworld hello@123
goodluck goodluck1 goodbye1 happy123 happyday happiness happiness1 birthday birthday1 birthday21 christmas christmas1
halloween halloween1 thanksgiving doctor123 medical1 hospital hospital1 clinic123 therapist psychology health123
patient1 consult1 consult123 consultation consultant meeting1 meeting123 calendar1 booking1 booking123 company1
company123 business business1 office123 manager1 manager123 employee marketing accounting finance1 money123 moneymoney
million1 dollar123 bitcoin1 bitcoin123 ethereum crypto123 trading1 freedom1 freedom123 liberty1 america1 american1
california newyork1 newyorkcity london123 paris123 berlin123 germany1 deutschland frankreich france123 australia
australia1 canada123 brazil123 mexico123 argentina argentina1 colombia colombia1 jamaica1 nigeria1 pakistan pakistan1
pakistan123 india123 indian123 bangladesh indonesia malaysia singapore philippines vietnam1 thailand sayang123
sayangku bismillah bismillah1 bismillah123 alhamdulillah allahuakbar muhammad muhammad1 mohammed mohammed1 mohamed1
ahmed123 abdullah abdullah1 fatima123 krishna1 krishna123 ganesha1 jaimatadi omsairam sairam123 11111111a 12345678a
12345678q 123456789a 123456789q 1234567890a 1234567890q 123456abc 12345abc 1234abcd 123456aa 123456789z 1111aaaa
11112222 11223344 1122334455 112233445566 12121212 12123434 12312312 123123123 123123123a 12341234 123454321
1234554321 12344321 1234567887654321 123321123 123321123321 13131313 13579246 135792468 1357924680 147258369
1472583690 14725836 15935728 159357123 159753123 19841984 19851985 19861986 19871987 19881988 19891989 19901990
19911991 19921992 19931993 19941994 19951995 19961996 20002000 20202020 21212121 23232323 24681012 25252525 31415926
3141592653 36925814 36925817 45454545 55667788 66778899 69696969 741852963 74108520 7894561230 78945612 789456123
852456852 87654321a 88888888a 951753852 963852741 987654321a 99887766 9876543210a 00112233 01012000 01011990 01011980
01234567890 10101010 10203040 1020304050 102030405060
"""

COMMON_PASSWORDS = frozenset(_LIST.split())
